"""A loss that is called inside of another one, which a hook evaluates, keeps its own value."""

import contextvars
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch
from pytorch_metric_learning import losses

from cases import CLOSE, DIM, NUM_CLASSES, PROXY_LOSSES, Mirror, build_loss, draw_batch, triplets
from pml_synthesis import SynthesisLoss, SynthesisRegularizer
from pml_synthesis.pml import RowWeights, row_weights


class Doubled(Mirror):
    """Makes embeddings that count twice."""

    def synthesize(self, batch, generator):
        made = super().synthesize(batch, generator)
        return replace(made, weights=torch.full((len(made),), 2.0))


class Outer(losses.ProxyNCALoss):
    """Calls a function with its embeddings, labels and mined tuple in each call."""

    def __init__(self, inner, **parts):
        super().__init__(NUM_CLASSES, DIM, **parts)
        self.inner = [inner]  # In a list, it is no part of the loss.
        self.seen = []

    def compute_loss(self, embeddings, labels, indices_tuple, *others):
        self.seen.append(self.inner[0](embeddings, labels, indices_tuple))
        return super().compute_loss(embeddings, labels, indices_tuple, *others)


def joined(inner, augmenter):
    loss = Outer(inner).double()
    return SynthesisLoss(loss, augmenter), loss.seen


def with_term(inner, augmenter):
    loss = Outer(inner, embedding_regularizer=SynthesisRegularizer(augmenter)).double()
    return loss, loss.seen


def in_a_copied_context(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, function).result()


both_hooks = pytest.mark.parametrize("build", [joined, with_term])


@both_hooks
@pytest.mark.parametrize("augmenter", [Mirror, Doubled])
@pytest.mark.parametrize("batch_size", [12, 24], ids=["as the term", "as the joined batch"])
@pytest.mark.parametrize("copied", [False, True])
def test_of_other_embeddings(build, augmenter, batch_size, copied):
    x, y = draw_batch(0)
    others, other_labels = draw_batch(7, batch_size=batch_size)
    tuples = [part[::3] for part in triplets(other_labels)]
    teacher = build_loss(PROXY_LOSSES[0], seed=4)

    def inner(*_):
        call = partial(teacher, others, other_labels, tuples)
        return in_a_copied_context(call) if copied else call()

    loss, seen = build(inner, augmenter())
    loss(x, y, triplets(y))
    assert seen
    for value in seen:
        torch.testing.assert_close(value, teacher(others, other_labels, tuples), **CLOSE)


@both_hooks
def test_of_the_same_embeddings_by_other_tuples(build):
    x, y = draw_batch(0)
    plain = build_loss(PROXY_LOSSES[2])
    calls = []

    def inner(embeddings, labels, _):
        tuples = [part[::3] for part in triplets(labels)]
        calls.append((embeddings.detach(), labels.clone(), tuples))
        return plain(embeddings, labels, tuples)

    loss, seen = build(inner, Mirror())
    loss(x, y, triplets(y))
    for value, call in zip(seen, calls, strict=True):
        torch.testing.assert_close(value, plain(*call), **CLOSE)


def test_of_the_same_embeddings_by_the_same_tuple_they_inherit_its_weights():
    x, y = draw_batch(0)
    tuples = tuple(part[::3] for part in triplets(y))
    plain = build_loss(PROXY_LOSSES[2])
    loss, seen = joined(plain, Mirror())
    loss(x, y, tuples)
    torch.testing.assert_close(seen, [SynthesisLoss(plain, Mirror())(x, y, tuples)], **CLOSE)


def test_what_an_interrupt_left_behind_concerns_no_other_call():
    x, y = draw_batch(0)
    tuples = triplets(y)
    loss = build_loss(PROXY_LOSSES[0])
    expected = loss(x, y, tuples)
    with row_weights(RowWeights(y.clone(), tuples, lambda _: torch.zeros(len(y)))):
        torch.testing.assert_close(loss(x, y, tuples), expected, **CLOSE)


def test_real_labels_that_an_augmenter_hands_on_are_not_those_of_the_term():
    """An interrupt may have left behind what concerns them."""
    x, y = draw_batch(0)
    given = []
    loss, _ = with_term(lambda _, labels, __: given.append(labels), Mirror())
    loss(x, y, triplets(y))
    assert [labels.data_ptr() == y.data_ptr() for labels in given] == [True, False]
