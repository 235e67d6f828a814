"""A SynthesisLoss leaves the loss that it wraps as it is, and shows and sets its parts."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances, losses, reducers, regularizers
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from cases import (
    CLOSE,
    DIM,
    NUM_CLASSES,
    PROXY_LOSSES,
    Mirror,
    all_losses,
    assert_same_gradients,
    build_loss,
    draw_batch,
)
from pml_synthesis import (
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
    SyntheticBatch,
)

HOOKS = {
    "joined": lambda case, augmenter: SynthesisLoss(build_loss(case), augmenter),
    "term": lambda case, augmenter: build_loss(
        case, embedding_regularizer=SynthesisRegularizer(augmenter)
    ),
}
both_hooks = pytest.mark.parametrize("build", HOOKS.values(), ids=HOOKS)


# ---------------------------------------------------------------------- gradient checkpointing


@both_hooks
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recomputation_is_refused(build, reentrant):
    x, y = draw_batch(0)
    loss = build(PROXY_LOSSES[1], ProxySynthesis(seed=1))
    value = checkpoint(loss, x, y, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="checkpointing around the loss.*network alone"):
        value.backward()


@both_hooks
def test_a_checkpointed_network_is_fine(build):
    x, y = draw_batch(0)
    loss, twin = (build(PROXY_LOSSES[1], ProxySynthesis(seed=1)) for _ in range(2))
    layer = torch.nn.Linear(DIM, DIM).double()
    value = loss(checkpoint(layer, x, use_reentrant=False), y)
    expected = twin(layer(x), y)
    assert_same_gradients(value, expected, [layer.weight])


@both_hooks
def test_a_compiled_loss_breaks_its_graph_and_keeps_its_value(build):
    torch.compiler.reset()
    x, y = draw_batch(0)
    loss, twin = (build(PROXY_LOSSES[1], ProxySynthesis(seed=1)) for _ in range(2))
    compiled = torch.compile(loss, backend="eager")
    torch.testing.assert_close(compiled(x, y), twin(x, y), **CLOSE)
    torch.testing.assert_close(compiled(x, y), twin(x, y), **CLOSE)


def test_a_call_that_is_not_compiled_does_not_import_the_compiler():
    code = (
        "import sys, torch; from pytorch_metric_learning import losses;"
        "from pml_synthesis import *;"
        "see = SynthesisRegularizer(SphericalEmbeddingExpansion());"
        "loss = losses.ProxyNCALoss(3, 9, embedding_regularizer=see, embedding_reg_weight=0.2);"
        "loss = SynthesisLoss(loss, ProxySynthesis());"
        "loss(torch.randn(6, 9, requires_grad=True), torch.arange(6) % 3).backward();"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------- parametrized weights


@all_losses
@both_hooks
@pytest.mark.parametrize("parametrize", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_parametrized_weights(case, build, parametrize):
    if case.loss_class is losses.P2SGradLoss:
        pytest.skip("P2SGradLoss writes its weight at every call, which no parametrization keeps")
    x, y = draw_batch(0)
    loss = build(case, ProxySynthesis(seed=1))
    inner = loss.loss if isinstance(loss, SynthesisLoss) else loss
    plain = copy.deepcopy(loss)
    parametrize(inner, case.weight)
    if parametrize is parametrizations.orthogonal:
        plain_inner = plain.loss if isinstance(plain, SynthesisLoss) else plain
        getattr(plain_inner, case.weight).data = getattr(inner, case.weight).detach()
    before = {name: value.clone() for name, value in inner.named_parameters()}
    value = loss(x, y)
    torch.testing.assert_close(value, plain(x, y), **CLOSE)
    value.backward()
    for name, parameter in inner.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is not None and parameter.grad.isfinite().all()


@pytest.mark.parametrize("hook", ["joined", "term"])
def test_weights_that_are_no_parameters_are_refused(hook):
    loss = torch.nn.utils.weight_norm(losses.ProxyAnchorLoss(NUM_CLASSES, DIM), "proxies")
    with pytest.raises(ValueError, match="`proxies` of ProxyAnchorLoss is no parameter.*parametri"):
        if hook == "joined":
            SynthesisLoss(loss, ProxySynthesis())
        else:
            loss.embedding_regularizer = SynthesisRegularizer(ProxySynthesis())


# ---------------------------------------------------------------------- parts of the wrapped loss


@pytest.mark.parametrize(
    "name, part",
    [
        ("reducer", reducers.SumReducer()),
        ("distance", distances.LpDistance()),
        ("embedding_regularizer", regularizers.LpRegularizer()),
        ("embedding_reg_weight", 0.5),
        ("weight_regularizer", regularizers.LpRegularizer()),
    ],
)
def test_parts_are_those_of_the_wrapped_loss(name, part):
    wrapped = SynthesisLoss(losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM), ProxySynthesis())
    assert getattr(wrapped, name) is getattr(wrapped.loss, name)
    setattr(wrapped, name, part)
    assert getattr(wrapped, name) is part
    assert getattr(wrapped.loss, name) is part


def test_an_assigned_reducer_is_used():
    x, y = draw_batch(0)
    wrapped = SynthesisLoss(build_loss(PROXY_LOSSES[2]), Mirror())
    mean = wrapped(x, y)
    wrapped.reducer = reducers.SumReducer()
    torch.testing.assert_close(wrapped(x, y), 2 * len(y) * mean, **CLOSE)


def test_unknown_attributes_are_errors():
    wrapped = SynthesisLoss(losses.TripletMarginLoss(), None)
    with pytest.raises(AttributeError, match="margin"):
        _ = wrapped.margin


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("first", [torch.float16, torch.float64])
def test_logits_after_a_call_in_another_precision(dtype, first):
    loss = losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM)
    wrapped = SynthesisLoss(loss, ProxySynthesis())
    x, y = draw_batch(0)
    wrapped(x.to(first), y)
    logits = wrapped.get_logits(x.to(dtype))
    assert (logits.dtype, logits.shape) == (dtype, (len(y), NUM_CLASSES))
    assert loss.W.dtype == torch.float32


class Counting(losses.NormalizedSoftmaxLoss):
    """Counts its calls, as a loss with a schedule does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def compute_loss(self, *args):
        self.calls += 1
        self.seen = self.seen + 1
        return super().compute_loss(*args)


def test_what_a_loss_keeps_of_its_calls_is_kept():
    loss = Counting(NUM_CLASSES, DIM).double()
    wrapped = SynthesisLoss(loss, ProxySynthesis())
    for _ in range(3):
        wrapped(*draw_batch(0))
    assert (loss.calls, loss.seen.item()) == (3, 3)
    assert loss.W.shape == (DIM, NUM_CLASSES) and isinstance(loss.W, torch.nn.Parameter)


def test_a_failed_call_leaves_the_loss_as_it_was():
    x, y = draw_batch(0)
    wrapped = SynthesisLoss(build_loss(PROXY_LOSSES[0]), ProxySynthesis(seed=1))
    before = dict(vars(wrapped.loss))
    with pytest.raises(ValueError, match="`labels`"):
        wrapped(x, y + 10)
    assert vars(wrapped.loss) == before
    wrapped.loss.distance.compute_mat = None
    with pytest.raises(TypeError):
        SynthesisLoss(wrapped.loss, Mirror())(x, y)
    assert wrapped.loss.proxies.shape == (NUM_CLASSES, DIM)
    assert torch.equal(wrapped.loss.proxy_labels, torch.arange(NUM_CLASSES))


# ---------------------------------------------------------------------- messages


def test_an_augmenter_given_in_the_place_of_a_regularizer():
    message = r"give it embedding_regularizer=SynthesisRegularizer\(ProxySynthesis\(...\)\)"
    for name in ("embedding_regularizer", "weight_regularizer"):
        with pytest.raises(ValueError, match=f"given to ProxyAnchorLoss as `{name}`; {message}"):
            losses.ProxyAnchorLoss(5, 8, **{name: ProxySynthesis()})


def test_an_augmenter_of_proxies_for_a_pair_loss_names_what_works():
    with pytest.raises(ValueError, match="Losses without proxies work with .*SymmetricalSynthesis"):
        SynthesisLoss(losses.TripletMarginLoss(), ProxySynthesis())
    for loss in (losses.TripletMarginLoss(), losses.ContrastiveLoss()):
        SynthesisLoss(loss, SymmetricalSynthesis())(*draw_batch(0))


@both_hooks
def test_an_array_is_named_and_not_printed(build):
    loss = build(PROXY_LOSSES[1], ProxySynthesis())
    message = "`embeddings` to be a tensor, but got an object of type ndarray"
    with pytest.raises(ValueError, match=message):
        loss(np.zeros((100, DIM)), torch.zeros(100))


@pytest.mark.parametrize("augmenter", [ProxySynthesis, SphericalEmbeddingExpansion])
def test_the_regularizer_refuses_what_pml_would_fail_on(augmenter):
    x, y = draw_batch(0)
    loss = HOOKS["term"](PROXY_LOSSES[1], augmenter())
    with pytest.raises(ValueError, match="`labels` to be from 0 to 4, one per proxy"):
        loss(x, y + 1)
    with pytest.raises(ValueError, match="`proxies` to be of shape .*as wide as the embeddings"):
        loss(x[:, :3], y)
    with pytest.raises(ValueError, match="`labels` to be a tensor, but got None"):
        loss(x)


def emitting(**changes):
    """An augmenter whose batch has these fields."""

    class Emitting(Mirror):
        def synthesize(self, batch, generator):
            fields = vars(super().synthesize(batch, generator)) | changes
            return SyntheticBatch(**{name: fields[name] for name in fields if name[0] != "_"})

    return Emitting()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"source": torch.full((12,), -2)}, "`source` to be from -1 to 11, but got '-2 to -2'"),
        ({"source": torch.full((12,), 12)}, "`source` to be from -1 to 11"),
        ({"labels": torch.full((12,), NUM_CLASSES)}, "`labels` to be from 0 to 4"),
        ({"labels": torch.full((12,), -1)}, "`labels` to be from 0 to 4"),
        ({"parent": torch.full((12,), NUM_CLASSES)}, "`parent` to be from -1 to 4"),
        ({"weights": torch.ones(11)}, r"`weights` to be of shape \[12\]"),
        ({"weights": torch.ones(12).long()}, "`weights` to be floating point"),
        ({"term": torch.ones(2)}, "`term` to be a scalar"),
        (
            {
                "labels": torch.full((12,), NUM_CLASSES),
                "proxies": torch.ones(1, DIM),
                "source": torch.full((12,), -1),
            },
            "`parent` to be given for embeddings of new classes without a source",
        ),
    ],
)
def test_what_an_augmenter_makes_is_checked(changes, message):
    for loss in (losses.ProxyNCALoss(NUM_CLASSES, DIM), losses.ProxyAnchorLoss(NUM_CLASSES, DIM)):
        with pytest.raises(ValueError, match=message):
            SynthesisLoss(loss, emitting(**changes))(*draw_batch(0, dtype=torch.float32))


@pytest.mark.parametrize("case", PROXY_LOSSES[:3], ids=lambda case: case.name)
def test_a_compose_of_one_part_is_the_part_to_the_last_bit(case):
    x, y = draw_batch(0)
    alone = SynthesisLoss(build_loss(case), ProxySynthesis(seed=1))
    whole = SynthesisLoss(build_loss(case), Compose([ProxySynthesis(seed=1)]))
    whole.augmenter.augmenters[0].stream = 0
    assert torch.equal(alone(x, y), whole(x, y))
    batch = whole.augmenter(x, y, case.proxies(whole.loss))
    assert batch.row_mixture is not None and batch.class_mixture is not None
