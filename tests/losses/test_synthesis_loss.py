import copy
from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from pytorch_metric_learning.utils import distributed
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from cases import (
    AUGMENTERS,
    CLOSE,
    DIM,
    EXAMPLES,
    LOSSES,
    NUM_CLASSES,
    PROXY_LOSSES,
    REDUCERS,
    Mirror,
    all_augmenters,
    all_losses,
    assert_same_gradients,
    build_loss,
    draw_batch,
    pairs,
    skip_refused,
    taking_turns,
    triplets,
)
from pml_synthesis import (
    BaseAugmenter,
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
    SyntheticBatch,
)
from pml_synthesis.pml import cast_like
from reference import joined_loss, real_parents, soft_label_loss, synthetic_batch


class Nothing(BaseAugmenter):
    """Makes nothing of anything."""

    requires_proxies = False

    def synthesize(self, batch, generator):
        return SyntheticBatch.empty(batch.embeddings, batch.proxies)


@taking_turns(
    ("order", "seed"),
    {"random": ("random", 0), "sorted": ("sorted", 1), "balanced": ("balanced", 1)},
    case=LOSSES,
    augmenter=AUGMENTERS,
)
def test_equals_the_reference(case, augmenter, order, seed):
    skip_refused(case, augmenter)
    x, y = draw_batch(seed, batch_size=9 + 5 * seed, order=order)
    loss = build_loss(case, seed)
    weight = getattr(loss, case.weight)
    reference_weight = weight.detach().clone().requires_grad_()
    twin = build_loss(case, seed)
    del twin._parameters[case.weight]
    setattr(twin, case.weight, reference_weight)

    value = SynthesisLoss(loss, augmenter())(x, y)
    expected = joined_loss(case, augmenter(), x, y, case.proxies(twin))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, weight], [x, reference_weight])


def test_what_a_reference_says_is_refused_is_an_error():
    for case in PROXY_LOSSES:
        for example in EXAMPLES:
            if example.is_refused_by(case.loss_class):
                loss = SynthesisLoss(build_loss(case), example())
                with pytest.raises(ValueError, match=case.name):
                    loss(*draw_batch(0))


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@taking_turns(
    ["mode"],
    {mode: (mode,) for mode in ("no augmenter", "eval", "empty batch")},
    case=LOSSES,
    reducer=REDUCERS,
    dtype={str(dtype): dtype for dtype in DTYPES},
)
def test_equals_the_bare_loss(case, reducer, dtype, mode):
    x, y = draw_batch(0, dtype=dtype)
    bare = build_loss(case, dtype=torch.float32, reducer=reducer(NUM_CLASSES))
    wrapped = SynthesisLoss(
        copy.deepcopy(bare),
        {"no augmenter": None, "eval": ProxySynthesis(), "empty batch": Nothing()}[mode],
    )
    wrapped.train(mode != "eval")
    try:
        expected = bare(x, y)
    except (RuntimeError, AssertionError, IndexError) as error:
        pytest.skip(f"PML's bare {case.name} fails with {dtype}: {error!r}")
    if isinstance(expected, dict):
        value, expected = wrapped(x, y), {name: info["losses"] for name, info in expected.items()}
        value = {name: info["losses"] for name, info in value.items()}
    else:
        value = wrapped(x, y)
    close = {"rtol": 0, "atol": 0}
    if case.loss_class is losses.P2SGradLoss:
        # Renormalizes its weight in the dtype that it finds: half, where the weight was copied.
        close = {"rtol": 5e-3, "atol": 1e-5} if dtype == torch.float16 else {}
    torch.testing.assert_close(value, expected, equal_nan=True, **close)


@all_losses
@pytest.mark.parametrize("mode", ["no augmenter", "eval", "empty batch"])
def test_has_the_gradients_of_the_bare_loss(case, mode):
    x, y = draw_batch(0)
    bare = build_loss(case)
    wrapped = SynthesisLoss(
        copy.deepcopy(bare),
        {"no augmenter": None, "eval": ProxySynthesis(), "empty batch": Nothing()}[mode],
    )
    wrapped.train(mode != "eval")
    weights = [x, getattr(wrapped.loss, case.weight)], [x, getattr(bare, case.weight)]
    assert_same_gradients(wrapped(x, y), bare(x, y), *weights)


@pytest.mark.parametrize("training", [True, False])
def test_p2sgrad_renormalizes_its_own_weight(training):
    loss = losses.P2SGradLoss(DIM, NUM_CLASSES)
    wrapped = SynthesisLoss(loss, ProxySynthesis()).train(training)
    for dtype in (torch.float32, torch.float64):
        loss.weight.data *= 3
        wrapped(*draw_batch(0, dtype=dtype))
        torch.testing.assert_close(loss.weight.norm(dim=0), torch.ones(NUM_CLASSES))
        assert loss.weight.dtype == torch.float32


@taking_turns(
    ["mine"], {"triplets": (triplets,), "pairs": (pairs,)}, case=LOSSES, augmenter=AUGMENTERS
)
def test_synthetic_rows_inherit_mined_weights(case, augmenter, mine):
    if case.loss_class is losses.P2SGradLoss:
        pytest.skip("PML's P2SGradLoss takes no mined tuple")
    x, y = draw_batch(3, batch_size=14)
    loss = build_loss(case)
    tuples = mine(y)
    assert len(set(torch.cat(tuples).tolist())) < len(y)
    expected = joined_loss(case, augmenter(), x, y, case.proxies(loss), tuples)
    value = SynthesisLoss(loss, augmenter())(x, y, tuples)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert value != SynthesisLoss(loss, augmenter())(x, y)


def test_a_tuple_that_names_nobody_weighs_all_alike():
    x, y = draw_batch(0)
    loss = losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM)
    empty = (torch.empty(0, dtype=torch.int64),) * 3
    value = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y, empty)
    assert value == SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)


def test_p2sgrad_refuses_tuples_as_it_does_itself():
    x, y = draw_batch(0)
    with pytest.raises(ValueError, match="indices_tuple is not supported"):
        SynthesisLoss(build_loss(PROXY_LOSSES[-1]), ProxySynthesis())(x, y, triplets(y))


@pytest.mark.parametrize(
    "case",
    [case for case in PROXY_LOSSES if "ProxyAnchor" not in case.name and "P2S" not in case.name],
    ids=lambda case: case.name,
)
@all_augmenters
def test_synthetic_rows_inherit_class_weights(case, augmenter):
    x, y = draw_batch(0)
    weights = torch.linspace(0.5, 3, NUM_CLASSES, dtype=torch.float64)
    loss = build_loss(case, reducer=reducers.ClassWeightedReducer(weights))
    proxies = case.proxies(loss)
    value = SynthesisLoss(loss, augmenter())(x, y)
    made = synthetic_batch(case, augmenter(), x, y, proxies)
    all_proxies = torch.cat([proxies, made.proxies])
    bare = case.build_with(all_proxies, reducer=reducers.DoNothingReducer())
    info = bare(torch.cat([x, made.embeddings]), torch.cat([y, made.labels]))["loss"]
    by_row = weights[torch.cat([y, real_parents(made, y)])][info["indices"]]
    own = torch.ones(len(made)) if made.weights is None else made.weights
    own = torch.cat([torch.ones(len(y)), own])[info["indices"]]
    expected = (info["losses"] * by_row * own).sum() / own.sum()
    torch.testing.assert_close(value, expected, **CLOSE)


@all_losses
@all_augmenters
def test_regularizers_see_what_is_real(case, augmenter):
    skip_refused(case, augmenter)
    x, y = draw_batch(0)
    seen = []

    class Spy(regularizers.LpRegularizer):
        def compute_loss(self, embeddings):
            seen.append(embeddings.detach())
            return super().compute_loss(embeddings)

    options = {"embedding_regularizer": Spy(), "embedding_reg_weight": 0.3}
    if case.loss_class is not losses.P2SGradLoss:
        options |= {"weight_regularizer": Spy(), "weight_reg_weight": 0.7}
    plain, loss = build_loss(case), build_loss(case, **options)
    value = SynthesisLoss(loss, augmenter())(x, y)
    proxies = case.proxies(loss).reshape(-1, DIM)
    expected = SynthesisLoss(plain, augmenter())(x, y) + 0.3 * x.norm(dim=1).mean()
    if "weight_regularizer" in options:
        expected = expected + 0.7 * proxies.norm(dim=1).mean()
        assert torch.equal(seen.pop(), proxies.detach())
    assert torch.equal(seen.pop(), x.detach()) and not seen
    torch.testing.assert_close(value, expected, **CLOSE)
    assert isinstance(loss.embedding_regularizer, Spy)
    if "weight_regularizer" in options:
        assert isinstance(loss.weight_regularizer, Spy)


def test_a_regularizer_that_knows_the_number_of_classes():
    case = next(case for case in PROXY_LOSSES if case.loss_class is losses.SoftTripleLoss)
    sparse = regularizers.SparseCentersRegularizer(NUM_CLASSES, case.centers)
    loss = build_loss(case, weight_regularizer=sparse)
    SynthesisLoss(loss, ProxySynthesis())(*draw_batch(0)).backward()
    assert loss.fc.grad.isfinite().all()


@pytest.mark.parametrize("unit", [True, False])
def test_norms_count_where_the_distance_keeps_them(unit):
    x, y = draw_batch(0)
    distance = distances.LpDistance(power=2, normalize_embeddings=unit)
    loss = losses.ProxyNCALoss(NUM_CLASSES, DIM, distance=distance).double()
    made = []
    loss.register_forward_pre_hook(lambda _, args: made.append(args[0].detach()))
    augmenter = ProxySynthesis(seed=1)
    SynthesisLoss(loss, augmenter)(x, y)
    batch = ProxySynthesis(seed=1)(x, y, loss.proxies)
    expected = torch.ones(len(batch)).double() if unit else x.norm(dim=1)[batch.source]
    torch.testing.assert_close(made[0][len(x) :].norm(dim=1), expected.detach())


class Doubled(Mirror):
    """Makes rows of another norm than one."""

    def synthesize(self, batch, generator):
        mirrored = super().synthesize(batch, generator)
        return replace(mirrored, embeddings=2 * mirrored.embeddings)


def test_only_directions_of_synthetic_rows_count_where_norms_do():
    x, y = draw_batch(0)
    for case in PROXY_LOSSES:
        if case.uses_norms:
            value = SynthesisLoss(build_loss(case), Doubled())(x, y)
            torch.testing.assert_close(
                value, SynthesisLoss(build_loss(case), Mirror())(x, y), **CLOSE
            )


class OwnNorms(Doubled):
    """Makes rows whose own norms count."""

    def synthesize(self, batch, generator):
        return replace(super().synthesize(batch, generator), keeps_norms=True)


@all_losses
def test_rows_may_keep_their_norms(case):
    (x, y), loss = draw_batch(0), build_loss(case)
    value = SynthesisLoss(loss, Compose([OwnNorms(), Doubled()]))(x, y)
    rows = torch.cat([x, -2 * x, -x])
    expected = case.build_with(case.proxies(loss))(rows, y.repeat(3))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


class ClassesAlone(BaseAugmenter):
    """Makes one class and no rows: one more negative for each real row."""

    def synthesize(self, batch, generator):
        none = batch.labels[:0]
        return SyntheticBatch(batch.embeddings[:0], none, -batch.proxies[:1], none)


@all_losses
def test_the_formulas_for_soft_labels_are_those_of_pml(case):
    if case.loss_class is losses.P2SGradLoss:
        pytest.skip("PML's P2SGradLoss takes no weights")
    x, y = draw_batch(0)
    loss, twin = build_loss(case), build_loss(case)
    one_hot = torch.nn.functional.one_hot(y, NUM_CLASSES).double()
    expected = soft_label_loss(case, x, one_hot, case.proxies(twin))
    value, inputs = loss(x, y), [x, getattr(loss, case.weight)]
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, inputs, [x, getattr(twin, case.weight)])


@all_losses
def test_classes_without_rows(case):
    x, y = draw_batch(0)
    loss = build_loss(case)
    proxies = case.proxies(loss)
    mean = torch.linalg.vector_norm(proxies, dim=-1).mean() if case.uses_norms else None
    new = -proxies[:1]
    if mean is not None:
        new = torch.nn.functional.normalize(new, dim=-1) * mean
    expected = case.build_with(torch.cat([proxies, new]))(x, y)
    torch.testing.assert_close(SynthesisLoss(loss, ClassesAlone())(x, y), expected, **CLOSE)


def test_under_autocast_of_an_accelerator_the_weight_keeps_its_precision(monkeypatch):
    # As PML itself does, which asks this question.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: True)
    loss, (x, _) = losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM), draw_batch(0, dtype=torch.half)
    assert cast_like(loss.W, x) is loss.W


def test_a_miner_of_pml():
    x, y = draw_batch(0, batch_size=20)
    tuples = miners.MultiSimilarityMiner()(x, y)
    SynthesisLoss(losses.MultiSimilarityLoss(), Mirror())(x, y, tuples).backward()
    assert x.grad.isfinite().all()
    loss = losses.ProxyAnchorLoss(NUM_CLASSES, DIM).double()
    SynthesisLoss(loss, ProxySynthesis())(x, y, tuples).backward()
    assert loss.proxies.grad.isfinite().all()


@all_losses
def test_state_dict_round_trips(case, tmp_path):
    x, y = draw_batch(0)
    wrapped = SynthesisLoss(build_loss(case), ProxySynthesis(seed=5))
    wrapped(x, y)
    torch.save(wrapped.state_dict(), tmp_path / "loss.pth")
    other = SynthesisLoss(build_loss(case, seed=1), ProxySynthesis(seed=6))
    other.load_state_dict(torch.load(tmp_path / "loss.pth", weights_only=True))
    assert torch.equal(wrapped(x, y), other(x, y))
    names = {f"loss.{name}" for name, _ in build_loss(case).named_parameters()}
    assert {name for name, _ in wrapped.named_parameters()} == names


@all_losses
def test_a_checkpoint_of_the_plain_loss_loads(case):
    plain = build_loss(case)
    wrapped = SynthesisLoss(build_loss(case, seed=1), ProxySynthesis())
    wrapped.loss.load_state_dict(plain.state_dict())
    x, y = draw_batch(0)
    torch.testing.assert_close(wrapped.eval()(x, y), plain(x, y), rtol=0, atol=1e-12)


def test_shows_what_the_wrapped_loss_has():
    loss = losses.ProxyAnchorLoss(
        NUM_CLASSES, DIM, embedding_regularizer=regularizers.LpRegularizer()
    )
    wrapped = SynthesisLoss(loss, ProxySynthesis(seed=1))
    assert wrapped.distance is loss.distance
    assert wrapped.reducer is loss.reducer
    assert wrapped.embedding_regularizer is loss.embedding_regularizer
    assert wrapped.sub_loss_names() == loss.sub_loss_names()
    x, _ = draw_batch(0, dtype=torch.float32)
    assert torch.equal(wrapped.get_logits(x), loss.get_logits(x))
    assert "ProxySynthesis(alpha=0.4, mu=1.0, seed=1)" in repr(wrapped)
    assert set(dict(wrapped.named_children())) == {"loss", "augmenter"}


@all_losses
def test_leaves_the_wrapped_loss_as_it_was(case):
    loss = build_loss(case, embedding_regularizer=regularizers.LpRegularizer())
    before = dict(vars(loss)), dict(loss._modules), dict(loss._parameters)
    x, y = draw_batch(0)
    SynthesisLoss(loss, ProxySynthesis())(x, y)
    for name, value in before[1].items():
        assert loss._modules[name] is value
    for name, value in before[2].items():
        assert loss._parameters[name] is value
    assert getattr(loss, "num_classes", 0) == before[0].get("num_classes", 0)


def test_leaves_the_wrapped_loss_as_it_was_after_an_error():
    loss = losses.ProxyAnchorLoss(NUM_CLASSES, DIM).double()
    reducer, convert = loss.reducer, lmu.convert_to_weights
    x, y = draw_batch(0)
    with pytest.raises(IndexError):
        SynthesisLoss(loss, ProxySynthesis())(x, y, (torch.tensor([99]),) * 3)
    assert loss.reducer is reducer and loss.num_classes == NUM_CLASSES
    assert loss.proxies.shape == (NUM_CLASSES, DIM) and lmu.convert_to_weights is convert


def test_inside_of_pmls_wrappers():
    x, y = draw_batch(0)
    loss = losses.ProxyAnchorLoss(NUM_CLASSES, DIM).double()
    value = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    wrapper = distributed.DistributedLossWrapper(SynthesisLoss(loss, ProxySynthesis(seed=1)))
    assert torch.equal(wrapper(x, y), value)
    both = losses.MultipleLosses(
        [SynthesisLoss(loss, ProxySynthesis(seed=1)), losses.TripletMarginLoss()]
    )
    torch.testing.assert_close(both(x, y), value + losses.TripletMarginLoss()(x, y))


def test_ref_emb_is_refused_with_proxy_losses():
    x, y = draw_batch(0)
    wrapped = SynthesisLoss(build_loss(PROXY_LOSSES[0]), ProxySynthesis())
    for mode in (True, False):
        with pytest.raises(ValueError, match="`ref_emb` .* ProxyNCALoss compares embeddings"):
            wrapped.train(mode)(x, y, ref_emb=x, ref_labels=y)


@pytest.mark.parametrize("augmenter", [ProxySynthesis(), SphericalEmbeddingExpansion()])
def test_unknown_proxies_are_an_error_that_says_what_to_do(augmenter):
    message = "TripletMarginLoss keeps any is unknown.*register_proxies.*Known: .*ArcFaceLoss"
    with pytest.raises(ValueError, match=f"{type(augmenter).__name__} needs.*{message}"):
        SynthesisLoss(losses.TripletMarginLoss(), augmenter)
    with pytest.raises(ValueError, match=message):
        SynthesisLoss(losses.TripletMarginLoss(), Compose([Mirror(), augmenter]))


def test_new_classes_without_proxies_are_an_error():
    class NewClasses(Mirror):
        def synthesize(self, batch, generator):
            mirrored = super().synthesize(batch, generator)
            return replace(mirrored, proxies=batch.embeddings[:2])

    with pytest.raises(ValueError, match="`augmenter` to be one that makes no new classes"):
        SynthesisLoss(losses.TripletMarginLoss(), NewClasses())(*draw_batch(0))


@pytest.mark.parametrize(
    "loss",
    [
        None,
        torch.nn.CrossEntropyLoss(),
        losses.MultipleLosses([losses.TripletMarginLoss()]),
        SynthesisLoss(losses.TripletMarginLoss(), None),
    ],
    ids=["None", "torch's", "MultipleLosses", "SynthesisLoss"],
)
def test_wrong_loss(loss):
    with pytest.raises(ValueError, match="`loss` to be a plain PML loss"):
        SynthesisLoss(loss, None)


def test_wrong_augmenter():
    with pytest.raises(ValueError, match="`augmenter` to be an augmenter, or None, but got 0.4"):
        SynthesisLoss(losses.TripletMarginLoss(), 0.4)


@all_losses
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integer_labels(case, dtype):
    x, y = draw_batch(0)
    for wrapped in (
        SynthesisLoss(build_loss(case), None),
        SynthesisLoss(build_loss(case), ProxySynthesis(seed=1)),
    ):
        twin = copy.deepcopy(wrapped)
        torch.testing.assert_close(wrapped(x, y.to(dtype)), twin(x, y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("labels", ["large", "just too large", "float", "missing"])
def test_wrong_labels(labels):
    x, y = draw_batch(0)
    just_too_large = torch.full_like(y, NUM_CLASSES)
    given = {
        "large": y + NUM_CLASSES,
        "just too large": just_too_large,
        "float": y.double(),
        "missing": None,
    }[labels]
    with pytest.raises(ValueError, match="`labels`"):
        SynthesisLoss(build_loss(PROXY_LOSSES[0]), ProxySynthesis())(x, given)


def test_labels_on_the_host_are_not_copied_twice():
    given = []

    class Spy(Mirror):
        def forward(self, embeddings, labels, proxies=None):
            given.append(labels)
            return super().forward(embeddings, labels, proxies)

    x, y = draw_batch(0)
    y = y.to(torch.int16)
    SynthesisLoss(build_loss(PROXY_LOSSES[0]), Spy())(x, y)
    assert given[0] is y


def test_multi_center_losses_with_a_part_that_makes_no_classes():
    case = next(case for case in PROXY_LOSSES if case.centers == 2)
    x, y = draw_batch(0)
    for parts in ([ProxySynthesis(), Mirror()], [Mirror(), ProxySynthesis()], [Mirror(), Mirror()]):
        SynthesisLoss(build_loss(case), Compose(parts))(x, y).backward()
    assert x.grad.isfinite().all()


def test_new_classes_must_have_as_many_centers_as_real_ones():
    class OneCenter(Mirror):
        def synthesize(self, batch, generator):
            return replace(super().synthesize(batch, generator), proxies=batch.proxies[:, 0])

    case = next(case for case in PROXY_LOSSES if case.centers == 2)
    message = (
        r"`OneCenter.synthesize\(...\).proxies` to be of shape \[E, 2, 8\], as the real ones are, "
        r"but got \(5, 8\)"
    )
    with pytest.raises(ValueError, match=message):
        SynthesisLoss(build_loss(case), OneCenter())(*draw_batch(0))


def test_wrong_embeddings():
    x, y = draw_batch(0)
    wrapped = SynthesisLoss(build_loss(PROXY_LOSSES[0]), ProxySynthesis())
    with pytest.raises(ValueError, match="`embeddings` to be of shape"):
        wrapped(x[0], y)
    with pytest.raises(ValueError, match="`proxies` to be of shape .*as wide as the embeddings"):
        wrapped(x[:, :3], y)


@pytest.mark.parametrize("method", ["bare", "ps", "see"])
def test_proxy_nca_is_norm_softmax_at_twice_its_scale(method):
    """What is tuned for the one is tuned for the other."""
    (embeddings, labels), scale = draw_batch(0, dtype=torch.float64), 6.0

    def build(loss_class, **options):
        if method == "see":
            see = SynthesisRegularizer(SphericalEmbeddingExpansion(3, 0.5, seed=1))
            options |= {"embedding_regularizer": see, "embedding_reg_weight": 0.5}
        return loss_class(NUM_CLASSES, DIM, **options).double()

    proxy_nca = build(losses.ProxyNCALoss, softmax_scale=scale)
    norm_softmax = build(losses.NormalizedSoftmaxLoss, temperature=1 / (2 * scale))
    norm_softmax.W.data = proxy_nca.proxies.data.T.clone()
    outcomes = []
    for loss in (proxy_nca, norm_softmax):
        rows = embeddings.detach().clone().requires_grad_()
        hooked = SynthesisLoss(loss, ProxySynthesis(seed=1)) if method == "ps" else loss
        value = hooked(rows, labels)
        value.backward()
        outcomes.append((value, rows.grad))
    torch.testing.assert_close(*outcomes, **CLOSE)
    torch.testing.assert_close(proxy_nca.proxies.grad, norm_softmax.W.grad.T, **CLOSE)
