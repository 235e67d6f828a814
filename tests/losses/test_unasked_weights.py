"""A mined tuple that would not reach the synthetic embeddings of a call is an error."""

import pytest
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from cases import DIM, NUM_CLASSES, all_losses, build_loss, draw_batch, triplets
from pml_synthesis import ProxySynthesis, SynthesisLoss, SynthesisRegularizer

PMLS_OWN = lmu.convert_to_weights.__wrapped__


class Early(losses.NormalizedSoftmaxLoss):
    """Weighs by a function that it has taken from PML before this library was imported."""

    def compute_loss(self, embeddings, labels, indices_tuple, *others):
        loss_dict = super().compute_loss(embeddings, labels, None, *others)
        weights = PMLS_OWN(indices_tuple, labels, dtype=embeddings.dtype)
        loss_dict["loss"]["losses"] = loss_dict["loss"]["losses"] * weights
        return loss_dict


def test_with_a_loss_that_took_the_function_early():
    x, y = draw_batch(0)
    loss = SynthesisLoss(Early(NUM_CLASSES, DIM).double(), ProxySynthesis())
    with pytest.raises(ValueError, match="`indices_tuple` to be None.* Early does not ask"):
        loss(x, y, triplets(y))
    loss(x, y)
    loss.eval()(x, y, triplets(y))


@all_losses
@pytest.mark.parametrize("hook", ["joined", "term"])
def test_where_the_module_of_pml_was_reloaded(case, hook, monkeypatch):
    if case.loss_class is losses.P2SGradLoss:
        pytest.skip("PML's P2SGradLoss takes no tuples")
    x, y = draw_batch(0, batch_size=24)
    tuples = tuple(part[(part < 12)][:5] for part in triplets(y))
    augmenter = ProxySynthesis(seed=1)
    if hook == "joined":
        loss = SynthesisLoss(build_loss(case), augmenter)
    else:
        loss = build_loss(case, embedding_regularizer=SynthesisRegularizer(augmenter))
    monkeypatch.setattr(lmu, "convert_to_weights", PMLS_OWN)
    with pytest.raises(ValueError, match="was reloaded, restart Python"):
        loss(x, y, tuples)
