import copy

import pytest
import torch
from pytorch_metric_learning import losses

from cases import DIM, NUM_CLASSES, Mirror, draw_batch, draw_proxies
from pml_synthesis import (
    Compose,
    DenselyAnchoredSampling,
    MemVir,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
)


def test_parts_of_a_compose_draw_apart():
    (x, y), p = draw_batch(0), draw_proxies(0, NUM_CLASSES, DIM)
    batch = Compose([ProxySynthesis(seed=1), ProxySynthesis(seed=1)])(x, y, p)
    first, second = batch.embeddings.chunk(2)
    assert not torch.equal(first, second)
    nested = Compose([ProxySynthesis(seed=1), Compose([ProxySynthesis(seed=1)])])(x, y, p)
    first, second = nested.embeddings.chunk(2)
    assert not torch.equal(first, second)


def test_compose_counts_new_classes_on():
    (x, y), p = draw_batch(0), draw_proxies(0, NUM_CLASSES, DIM)
    ps, see, ps2 = ProxySynthesis(), SphericalEmbeddingExpansion(2, 0.5), ProxySynthesis(mu=2)
    batch = Compose([ps, see, ps2])(x, y, p)
    alone = [twin(x, y, p) for twin in map(copy.deepcopy, (ps, see, ps2))]
    # The twins have taken a step; what they make has the same form.
    assert len(batch) == sum(len(part) for part in alone)
    assert batch.num_new_classes == len(batch.proxies)
    # Those that are mixed from real embeddings come last.
    labels = batch.labels.split([len(alone[i]) for i in (1, 0, 2)])
    num_first = int(labels[1].max()) - 4
    assert labels[0].max() < 5
    assert set(labels[1].tolist()) == set(range(5, 5 + num_first))
    assert set(labels[2].tolist()) == set(range(5 + num_first, 5 + batch.num_new_classes))


def test_compose_needs_proxies_where_a_part_does():
    x, y = draw_batch(0)
    assert len(Compose([Mirror(), Mirror()])(x, y)) == 2 * len(x)
    with pytest.raises(ValueError, match="`proxies` to be the class proxies, which Compose needs"):
        Compose([Mirror(), ProxySynthesis()])(x, y)


def test_a_part_of_a_compose_belongs_to_it_alone():
    part = ProxySynthesis()
    with pytest.raises(ValueError, match=r"different objects \(copy.deepcopy makes one\)"):
        Compose([part, part])


def test_compose_repr_shows_its_parts():
    text = repr(
        Compose([ProxySynthesis(alpha=0.3, seed=1), SphericalEmbeddingExpansion(4, seed=2)])
    )
    assert text.count("seed=") == 2
    assert "ProxySynthesis(alpha=0.3, mu=1.0, seed=1)" in text
    assert "num_expansions=4, fraction=0.4, detach=True, seed=2" in text


@pytest.mark.parametrize("parts", [[], [ProxySynthesis(), torch.nn.Identity()]])
def test_compose_of_something_else(parts):
    with pytest.raises(ValueError, match="`augmenters` to be a sequence of at least one augmenter"):
        Compose(parts)


class Failing(Mirror):
    """Raises where it is told to."""

    fails = False

    def synthesize(self, batch, generator):
        if self.fails:
            raise RuntimeError("told to fail")
        return super().synthesize(batch, generator)


@pytest.mark.parametrize("nested", [False, True])
def test_a_call_that_fails_leaves_all_parts_as_they_were(nested):
    (x, y), p = draw_batch(0), draw_proxies(0, NUM_CLASSES, DIM)
    failing = Failing()
    memory = MemVir(NUM_CLASSES, DIM, batch_size=12, num_steps=2, step_gap=0, warm_up_steps=0)
    parts = [memory, DenselyAnchoredSampling(NUM_CLASSES, DIM, num_channels=3), failing]
    whole = Compose([Compose(parts[:2]), failing] if nested else parts).double()
    whole(x, y, p)
    twin = copy.deepcopy(whole)
    failing.fails = True
    with pytest.raises(RuntimeError, match="told to fail"):
        whole(x, y, p)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
    failing.fails = False
    assert torch.equal(whole(x, y, p).embeddings, twin(x, y, p).embeddings)


def test_a_loss_that_fails_after_synthesis_leaves_the_parts_at_the_same_step():
    x, y = draw_batch(0)
    parts = [Mirror(), DenselyAnchoredSampling(NUM_CLASSES, DIM, num_channels=3)]
    whole = Compose(parts).double()
    twin = copy.deepcopy(whole)
    with pytest.raises(ValueError, match="`indices_tuple` to be from 0 to 11"):
        SynthesisLoss(losses.TripletMarginLoss(), whole)(x, y, (y, y, y + 12))
    twin(x, y)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
