import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses, reducers
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from cases import (
    CLOSE,
    DIM,
    NUM_CLASSES,
    PROXY_LOSSES,
    assert_same_batch,
    assert_same_gradients,
    build_loss,
    draw_batch,
    draw_proxies,
)
from pml_synthesis import (
    MemVir,
    SynthesisLoss,
    SynthesisRegularizer,
)
from reference.mem_vir import recalled, remembered


def mem_vir(num_steps=2, step_gap=1, warm_up_steps=0, **options):
    sizes = {"num_classes": NUM_CLASSES, "embedding_size": DIM, "batch_size": 20}
    steps = {"num_steps": num_steps, "step_gap": step_gap, "warm_up_steps": warm_up_steps}
    return MemVir(**sizes | steps | options).double()


def case_of(loss_class):
    return next(case for case in PROXY_LOSSES if case.loss_class is loss_class)


# ------------------------------------------------------------------------ what is recalled


@pytest.mark.parametrize("order", ["random", "sorted", "balanced", "dominated"])
@pytest.mark.parametrize(
    "num_steps, step_gap, warm_up", [(1, 0, 0), (3, 0, 2), (2, 1, 0), (2, 3, 5)]
)
def test_equals_a_list_of_all_steps(num_steps, step_gap, warm_up, order):
    augmenter, history = mem_vir(num_steps, step_gap, warm_up), []
    sizes = [12, 12, 7, 20, 1, 0]
    for step in range(warm_up + 3 * num_steps * (step_gap + 1) + 2):
        (x, y), p = draw_batch(step, sizes[step % 6], order=order), draw_proxies(step, 5, DIM)
        batch = augmenter(x, y, p)
        expected = recalled(history, num_steps, step_gap, x, p)
        assert_same_batch(batch, expected)
        assert torch.equal(batch.parent_labels(y, 5), expected.parent)
        if step >= warm_up:
            history.append(remembered(x, y, p))
    assert batch.num_new_classes == num_steps * NUM_CLASSES


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=12), st.integers(1, 3), st.integers(0, 2))
def test_properties_hold_for_all_histories(sizes, num_steps, step_gap):
    augmenter, past = mem_vir(num_steps, step_gap), []
    for step, size in enumerate(sizes):
        past.append((*draw_batch(step, size), draw_proxies(step, NUM_CLASSES, DIM)))
        batch = augmenter(*past[-1])
        ages = [k * (step_gap + 1) for k in range(1, num_steps + 1) if k * (step_gap + 1) <= step]
        assert batch.num_new_classes == NUM_CLASSES * len(ages)
        assert len(batch) == sum(sizes[step - age] for age in ages)
        for k, age in enumerate(ages, start=1):
            x, y, p = past[step - age]
            classes = slice((k - 1) * NUM_CLASSES, k * NUM_CLASSES)
            assert torch.equal(batch.proxies[classes], p)
            # Each embedding of that step once, with its own label.
            of_step = batch.labels.div(NUM_CLASSES, rounding_mode="floor") == k
            assert not batch.embeddings.requires_grad and (batch.source == -1).all()
            labels = batch.labels[of_step].tolist()
            made = sorted(zip(batch.embeddings[of_step].tolist(), labels, strict=True))
            expected = (y + k * NUM_CLASSES).tolist()
            assert made == sorted(zip(x.tolist(), expected, strict=True))


@pytest.mark.parametrize("warm_up", [0, 1, 4])
def test_the_edge_of_the_warm_up(warm_up):
    num_steps, period = 3, 2
    augmenter, (x, y) = mem_vir(num_steps, period - 1, warm_up), draw_batch(0)
    p = draw_proxies(0, NUM_CLASSES, DIM)
    counts = [augmenter(x, y, p).num_new_classes // NUM_CLASSES for _ in range(warm_up + 10)]
    first = warm_up + period
    assert counts[:first] == [0] * first
    assert counts[first:] == [min(num_steps, 1 + i // period) for i in range(10 - period)]
    assert counts.index(num_steps) == warm_up + num_steps * period


@pytest.mark.parametrize("centers", [1, 3])
def test_classes_of_several_centers(centers):
    augmenter, history = mem_vir(num_centers=centers), []
    for step in range(6):
        (x, y), p = draw_batch(step), draw_proxies(step, NUM_CLASSES, centers, DIM)
        assert_same_batch(augmenter(x, y, p), recalled(history, 2, 1, x, p))
        history.append(remembered(x, y, p))


def test_what_was_made_does_not_change_with_the_memory():
    augmenter, p = mem_vir(num_steps=1, step_gap=0), draw_proxies(0, NUM_CLASSES, DIM)
    augmenter(*draw_batch(0), p)
    batch = augmenter(*draw_batch(1), p)
    copies = [part.clone() for part in (batch.embeddings, batch.labels, batch.proxies)]
    augmenter(*draw_batch(2), p + 1)
    for part, copy in zip((batch.embeddings, batch.labels, batch.proxies), copies, strict=True):
        assert torch.equal(part, copy)


class Writes(TorchDispatchMode):
    """Records by which operations tensors of a shape come into being."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        view = function._schema.returns and function.is_view
        if isinstance(made, torch.Tensor) and made.shape == self.shape and not view:
            self.seen.append(function._schema.name)
        return made


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("rows", [[1, 4], range(6)], ids=["some", "all"])
def test_what_is_not_finite_is_not_remembered(wrong, rows):
    """1e300 is finite, but not in the memory, which is in float32."""
    one, other = (MemVir(3, 4, batch_size=6, num_steps=2, step_gap=0) for _ in range(2))
    one.warm_up_steps = other.warm_up_steps = 0
    kept = [i for i in range(6) if i not in rows]
    torch.manual_seed(0)
    for step in range(4):
        x, p = torch.randn(6, 4).double(), torch.randn(3, 4)
        y = torch.tensor([0, 0, 1, 1, 2, 2])
        bad = step == 1
        wanted = other(x[kept], y[kept], p) if bad else other(x, y, p)
        if bad:
            x[list(rows)] = wrong
        got = one(x, y, p)
        for name in ("embeddings", "labels", "proxies", "parent"):
            if getattr(wanted, name) is not None:
                torch.testing.assert_close(getattr(got, name), getattr(wanted, name))


def test_each_embedding_is_copied_once():
    augmenter, p = mem_vir(num_steps=1, step_gap=3), draw_proxies(0, NUM_CLASSES, DIM)
    x, y = draw_batch(0, 17)
    with Writes(x.shape) as of_embeddings, Writes(p.shape) as of_proxies:
        augmenter(x, y, p)
    copies = [name for name in of_embeddings.seen if name != "aten::detach"]
    assert copies == ["aten::index_select"]
    assert [name for name in of_proxies.seen if name != "aten::detach"] == ["aten::copy_"]


# ------------------------------------------------------------------------------ in a loss


@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("case", PROXY_LOSSES, ids=lambda case: case.name)
def test_the_loss_over_all_that_is_written_out(case, order):
    """In training: the proxies of each step are others."""
    centers = case.centers if case.centers > 1 else None
    loss, history = build_loss(case), []
    wrapped = SynthesisLoss(loss, mem_vir(num_centers=centers))
    weight = getattr(loss, case.weight)
    for step in range(6):
        x, y = draw_batch(step, batch_size=12 - step, order=order)
        proxies = case.proxies(loss).detach()
        past = recalled(history, 2, 1, x, proxies)
        leaf = weight.detach().clone().requires_grad_()
        rows = leaf.movedim(case.class_dim, 0)
        old = past.proxies.reshape(-1, DIM)
        if case.uses_norms:
            old = normalize(old, dim=1) * torch.linalg.vector_norm(rows, dim=1).mean()
        bare = case.build_with(torch.cat([rows, old]))
        expected = bare(torch.cat([x, past.embeddings]), torch.cat([y, past.labels]))
        value = wrapped(x, y)
        torch.testing.assert_close(value, expected, **CLOSE)
        assert_same_gradients(value, expected, [x, weight], [x, leaf])
        history.append(remembered(x, y, proxies))
        with torch.no_grad():
            weight += 0.1 * torch.randn(weight.shape)
            if case.loss_class is losses.P2SGradLoss:
                weight.data = weight.renorm(2, 1, 1e-5).mul(1e5)


def test_norm_softmax_is_a_cross_entropy_over_real_and_virtual_classes():
    case = case_of(losses.NormalizedSoftmaxLoss)
    loss, augmenter = build_loss(case), mem_vir(num_steps=1, step_gap=0)
    (past, past_labels), (x, y) = draw_batch(0), draw_batch(1, 7)
    old = draw_proxies(0, NUM_CLASSES, DIM)
    augmenter(past, past_labels, old)
    rows = normalize(torch.cat([x, past.detach()]))
    proxies = normalize(torch.cat([loss.W.T, old.detach()]))
    labels = torch.cat([y, past_labels + NUM_CLASSES])
    expected = cross_entropy(rows @ proxies.T / loss.temperature, labels)
    value = SynthesisLoss(loss, augmenter)(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, loss.W])


# ------------------------------------------------------------ if nothing changes over steps

COSINE_CROSS_ENTROPIES = [losses.NormalizedSoftmaxLoss, losses.ProxyNCALoss]


def frozen(loss, augmenter, x, y):
    """Return the loss and its gradients once a full memory equals the present."""
    wrapped = SynthesisLoss(loss, augmenter)
    for _ in range(augmenter.num_slots):
        wrapped(x, y)
    value = wrapped(x, y)
    return value.detach(), torch.autograd.grad(value, [x, *loss.parameters()])


@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("loss_class", COSINE_CROSS_ENTROPIES)
def test_a_frozen_memory_shrinks_the_step(loss_class, num_steps):
    loss, (x, y) = build_loss(case_of(loss_class)), draw_batch(0)
    plain = loss(x, y)
    gradients = torch.autograd.grad(plain, [x, *loss.parameters()])
    value, shrunk = frozen(loss, mem_vir(num_steps), x, y)
    torch.testing.assert_close(value, plain.detach() + math.log(num_steps + 1), **CLOSE)
    for got, wanted in zip(shrunk, gradients, strict=True):
        torch.testing.assert_close(got, wanted / (num_steps + 1), **CLOSE)


@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("loss_class", COSINE_CROSS_ENTROPIES)
@pytest.mark.parametrize("weights", [False, True])
def test_with_normalize_a_frozen_memory_has_the_plain_gradients(loss_class, num_steps, weights):
    reducer = None
    if weights:
        of_classes = torch.linspace(0.5, 2, NUM_CLASSES, dtype=torch.float64)
        reducer = reducers.ClassWeightedReducer(of_classes)
    loss, (x, y) = build_loss(case_of(loss_class), reducer=reducer), draw_batch(0)
    gradients = torch.autograd.grad(loss(x, y), [x, *loss.parameters()])
    shares, _ = frozen(loss, mem_vir(num_steps), x, y)
    value, kept = frozen(loss, mem_vir(num_steps, normalize=True), x, y)
    torch.testing.assert_close(value, (num_steps + 1) * shares, **CLOSE)
    for got, wanted in zip(kept, gradients, strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)


@pytest.mark.parametrize("loss_class", COSINE_CROSS_ENTROPIES)
def test_a_sum_over_embeddings_shrinks_nothing(loss_class):
    loss, (x, y) = build_loss(case_of(loss_class), reducer=reducers.SumReducer()), draw_batch(0)
    gradients = torch.autograd.grad(loss(x, y), [x, *loss.parameters()])
    for normalize_ in (False, True):
        _, kept = frozen(loss, mem_vir(3, normalize=normalize_), x, y)
        for got, wanted in zip(kept, gradients, strict=True):
            torch.testing.assert_close(got, wanted, **CLOSE)


@pytest.mark.parametrize("case", PROXY_LOSSES, ids=lambda case: case.name)
def test_normalize_divides_by_the_number_of_real_embeddings(case):
    centers = case.centers if case.centers > 1 else None
    values = []
    for option in (False, True):
        augmenter = mem_vir(normalize=option, num_centers=centers)
        wrapped = SynthesisLoss(build_loss(case), augmenter)
        for step, size in enumerate([7, 12, 9, 3, 20]):
            value = wrapped(*draw_batch(step, size))
        values.append(value)
    # Those two and four steps ago take part.
    torch.testing.assert_close(values[1], values[0] * (20 + 9 + 7) / 20, **CLOSE)


def test_a_regularizer_adds_the_loss_of_the_virtual_classes_alone():
    case = case_of(losses.ProxyNCALoss)
    x, y = draw_batch(0)
    term = SynthesisRegularizer(mem_vir(num_steps=1, step_gap=0, normalize=True))
    loss = build_loss(case, embedding_regularizer=term, embedding_reg_weight=0.3)
    plain = build_loss(case)
    torch.testing.assert_close(loss(x, y), plain(x, y), **CLOSE)
    twice = torch.cat([plain.proxies, plain.proxies.detach()])
    expected = plain(x, y) + 0.3 * case.build_with(twice)(x.detach(), y + NUM_CLASSES)
    value = loss(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, loss.proxies], [x, plain.proxies])


# ------------------------------------------------------------- where the memory is, and errors


def test_the_memory_follows_the_module_or_stays_on_its_device():
    follows, stays = mem_vir(), mem_vir(memory_device="cpu")
    for augmenter, device in ((follows, "meta"), (stays, "cpu")):
        wrapped = SynthesisLoss(losses.ProxyNCALoss(NUM_CLASSES, DIM), augmenter).to("meta")
        assert wrapped.loss.proxies.device.type == "meta"
        assert {buffer.device.type for buffer in augmenter.buffers()} == {device}
    stays.half()
    assert (stays.embeddings.dtype, stays.labels.dtype) == (torch.float16, torch.int64)
    stays.float()(*draw_batch(0, dtype=torch.float32), draw_proxies(0, NUM_CLASSES, DIM).float())
    assert stays.num_remembered == 1


def test_a_memory_device_is_never_left_even_for_a_moment():
    augmenter, moved = mem_vir(memory_device="cpu"), []

    def move(tensor):
        moved.append(tensor.numel())
        return tensor.to("meta")

    augmenter._apply(move)
    assert moved == [0, 0, 0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 0}, "`num_classes` to be an integer of at least 1, but got 0"),
        ({"embedding_size": 2.0}, "`embedding_size` to be an integer of at least 1"),
        ({"batch_size": True}, "`batch_size` to be an integer of at least 1, but got True"),
        ({"num_steps": 0}, "`num_steps` to be an integer of at least 1"),
        ({"step_gap": -1}, "`step_gap` to be an integer of at least 0"),
        ({"warm_up_steps": None}, "`warm_up_steps` to be an integer of at least 0"),
        ({"normalize": 1}, "`normalize` to be True or False"),
        ({"num_centers": 0}, "`num_centers` to be an integer of at least 1, or None"),
        ({"memory_device": 3}, "`memory_device` to be a device, or None, but got 3"),
        ({"memory_device": "here"}, "`memory_device` to be a device, or None, but got 'here'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        mem_vir(**options)


@pytest.mark.parametrize(
    "size, shape, message",
    [
        (21, (5, 8), "`embeddings` to be at most 20, the `batch_size` .*, but got '21 of them'"),
        (4, (5, 3, 8), r"`proxies` to be of shape \(5, 8\), .*`num_centers`.*\(5, 3, 8\)"),
    ],
)
def test_batches_that_the_memory_was_not_made_for(size, shape, message):
    augmenter = mem_vir()
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            augmenter(*draw_batch(0, size), draw_proxies(0, *shape))
    assert (augmenter.step, augmenter.num_remembered) == (0, 0)


@pytest.mark.parametrize("other", [{"num_steps": 3}, {"batch_size": 21}, {"num_centers": 2}])
def test_a_checkpoint_of_other_sizes(other):
    with pytest.raises(RuntimeError, match="a MemVir with the same sizes, but got `"):
        mem_vir(**other).load_state_dict(mem_vir().state_dict())


def test_statistics_and_repr():
    augmenter = mem_vir(num_steps=1, step_gap=0, seed=3, collect_stats=True)
    assert repr(augmenter) == (
        "MemVir(num_classes=5, embedding_size=8, batch_size=20, num_steps=1, step_gap=0, "
        "warm_up_steps=0, normalize=False, num_centers=None, memory_device=None, seed=3)"
    )
    (x, y), p = draw_batch(0), draw_proxies(0, NUM_CLASSES, DIM)
    augmenter(x, y, p)
    assert (augmenter.num_rows, augmenter.num_virtual_classes, augmenter.proxy_drift) == (0, 0, 0)
    augmenter(x, y, -p)
    assert (augmenter.num_rows, augmenter.num_virtual_classes) == (12, NUM_CLASSES)
    assert augmenter.proxy_drift == pytest.approx(2)


def test_the_size_of_the_memory_is_that_of_the_formula():
    augmenter = MemVir(7, 16, batch_size=9, num_steps=3, step_gap=2, num_centers=2)
    taken = sum(buffer.numel() * buffer.element_size() for buffer in augmenter.buffers())
    assert taken == 3 * (2 + 1) * (4 * 16 * (9 + 7 * 2) + 8 * 9)
