"""Threads with a loss each, as in a hyperparameter search, see nothing of one another."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from cases import DIM, NUM_CLASSES, draw_batch, triplets
from pml_synthesis import (
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)
from pml_synthesis.pml import current_call

CALLS = 150


def joined(seed):
    torch.manual_seed(seed)
    return SynthesisLoss(losses.ProxyNCALoss(NUM_CLASSES, DIM), ProxySynthesis(seed=seed)).double()


def with_term(seed):
    torch.manual_seed(seed)
    see = SynthesisRegularizer(SphericalEmbeddingExpansion(3, 0.5, seed=seed))
    return losses.ProxyAnchorLoss(NUM_CLASSES, DIM, embedding_regularizer=see).double()


def plain(seed):
    torch.manual_seed(seed)
    return losses.ProxyNCALoss(NUM_CLASSES, DIM).double()


BUILD = (joined, with_term, plain, joined)


def values(thread, loss):
    got = []
    for call in range(CALLS):
        # Equal batches, of which each thread mines other tuples.
        x, y = draw_batch(call % 5)
        tuples = [part[thread::4] for part in triplets(y)]
        got.append(loss(x, y, tuples).item())
    return got


def test_four_threads_get_what_one_thread_gets():
    convert = lmu.convert_to_weights
    # Built before the threads start, which share the random numbers that weights are drawn from.
    twice = [[build(seed=thread % 3) for thread, build in enumerate(BUILD)] for _ in range(2)]
    expected = list(map(values, range(4), twice[0]))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(values, range(4), twice[1]))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(got, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    assert lmu.convert_to_weights is convert
    assert current_call() is None
