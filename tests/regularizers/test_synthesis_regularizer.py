import copy
import gc
import pickle
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning import losses, reducers, regularizers
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils import distributed

from cases import (
    AUGMENTERS,
    CLOSE,
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
    skip_refused,
    taking_turns,
    triplets,
)
from pml_synthesis import (
    Compose,
    EmbeddingMixup,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)
from pml_synthesis.pml import LossCall, announced, current_call
from reference import synthetic_batch, synthetic_loss, synthetic_parts

WEIGHT = 0.2
MEANS_OVER_ROWS = [
    case
    for case in PROXY_LOSSES
    if case.name in ("ProxyNCALoss", "NormalizedSoftmaxLoss", "SoftTripleLoss")
]


def with_regularizer(case, augmenter, seed=0, dtype=torch.float64, **kwargs):
    return build_loss(
        case,
        seed,
        dtype,
        embedding_regularizer=SynthesisRegularizer(augmenter),
        embedding_reg_weight=WEIGHT,
        **kwargs,
    )


@taking_turns(
    ("order", "seed"),
    {"random": ("random", 0), "sorted": ("sorted", 1)},
    case=LOSSES,
    augmenter=AUGMENTERS,
)
def test_equals_the_reference(case, augmenter, order, seed):
    skip_refused(case, augmenter)
    x, y = draw_batch(seed, order=order)
    loss = with_regularizer(case, augmenter(), seed)
    weight = getattr(loss, case.weight)
    twin = build_loss(case, seed)
    twin_weight = getattr(twin, case.weight)

    value = loss(x, y)
    term = synthetic_loss(case, augmenter(), x, y, case.proxies(twin))
    expected = twin(x, y) + WEIGHT * term
    if case.loss_class is losses.ProxyAnchorLoss:
        # PML gives the term to ProxyAnchorLoss's default reducer, which passes it on.
        assert isinstance(loss.reducer.reducers["embedding_reg_loss"], reducers.DivisorReducer)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, weight], [x, twin_weight])


@all_losses
@pytest.mark.parametrize("reducer", REDUCERS.values(), ids=REDUCERS)
def test_is_reduced_by_the_reducer_of_the_loss_or_its_default_one(case, reducer):
    if case.loss_class is losses.ProxyAnchorLoss and reducer is REDUCERS["class_weighted"]:
        pytest.skip("PML's ClassWeightedReducer takes the proxies of ProxyAnchorLoss for rows")
    x, y = draw_batch(0)
    loss = with_regularizer(case, ProxySynthesis(seed=1), reducer=reducer(NUM_CLASSES))
    info = {}
    loss.embedding_regularizer.register_forward_hook(lambda *args: info.update(term=args[2]))
    loss(x, y)
    parts = synthetic_parts(case, ProxySynthesis(seed=1), x, y, case.proxies(loss))
    rows, row_labels, new_proxies, source = parts
    options = {"reducer": reducer(NUM_CLASSES)}
    if reducer is REDUCERS["nothing"]:
        options = {}
    if reducer is REDUCERS["class_weighted"]:
        weights = torch.cat([options["reducer"].weights, torch.zeros(len(new_proxies))])
        weights[row_labels] = options["reducer"].weights[y[source]]
        options = {"reducer": reducers.ClassWeightedReducer(weights)}
    bare = case.build_with(torch.cat([case.proxies(loss), new_proxies]), **options)
    torch.testing.assert_close(info["term"], bare(rows, row_labels), **CLOSE)
    assert info["term"].shape == ()


@all_losses
@pytest.mark.parametrize("training", [True, False])
def test_regularization_of_the_loss_is_no_part_of_the_term(case, training):
    if case.loss_class is losses.P2SGradLoss:
        pytest.skip("PML's P2SGradLoss has no weight_regularizer")
    x, y = draw_batch(0)
    terms = []
    for options in ({}, {"weight_regularizer": regularizers.LpRegularizer()}):
        loss = with_regularizer(case, ProxySynthesis(seed=1), **options).train(training)
        loss.embedding_regularizer.register_forward_hook(lambda *args: terms.append(args[2]))
        loss(x, y)
    assert torch.equal(*terms)


@all_losses
@all_augmenters
def test_is_zero_in_eval_mode(case, augmenter):
    x, y = draw_batch(0)
    made = augmenter()
    step = made.step
    loss = with_regularizer(case, made).eval()
    torch.testing.assert_close(loss(x, y), build_loss(case)(x, y), **CLOSE)
    assert loss.embedding_regularizer.augmenter.step == step


@all_losses
@pytest.mark.parametrize(
    "augmenter", [ProxySynthesis(mu=0), SphericalEmbeddingExpansion(2, 0.0)], ids=["ps", "see"]
)
def test_nothing_synthetic_is_a_zero_with_a_graph(case, augmenter):
    x, y = draw_batch(0)
    loss = with_regularizer(case, augmenter)
    value = loss(x, y)
    torch.testing.assert_close(value, build_loss(case)(x, y), **CLOSE)
    terms = []
    loss.embedding_regularizer.register_forward_hook(lambda *args: terms.append(args[2]))
    loss(x, y)
    assert terms[0] == 0 and terms[0].requires_grad


def mined_weights(indices_tuple, labels, anchors_only):
    indices = indices_tuple[0] if anchors_only else torch.cat(indices_tuple)
    counts = torch.bincount(indices, minlength=len(labels)).double()
    return counts / counts.max()


@all_augmenters
@pytest.mark.parametrize(
    "case",
    [
        c
        for c in PROXY_LOSSES
        if c.name in ("ProxyNCALoss", "NormalizedSoftmaxLoss", "SoftTripleLoss")
    ],
    ids=lambda case: case.name,
)
def test_synthetic_rows_inherit_mined_weights(augmenter, case):
    x, y = draw_batch(3, batch_size=14)
    loss = with_regularizer(case, augmenter())
    terms = []
    loss.embedding_regularizer.register_forward_hook(lambda *args: terms.append(args[2]))
    loss(x, y, triplets(y))
    made = synthetic_batch(case, augmenter(), x, y, case.proxies(loss))
    nothing = {"reducer": reducers.DoNothingReducer()}
    bare = case.build_with(torch.cat([case.proxies(loss), made.proxies]), **nothing)
    info = bare(made.embeddings, made.labels)["loss"]
    mined = mined_weights(triplets(y), y, anchors_only=case.name == "ProxyNCALoss")
    # One where there is no source.
    weights = torch.cat([mined, mined.new_ones(1)])[made.source]
    own = torch.ones(len(made)) if made.weights is None else made.weights
    own = own[info["indices"]]
    expected = (info["losses"] * weights[info["indices"]] * own).sum() / own.sum()
    torch.testing.assert_close(terms[0], expected, **CLOSE)


def test_synthetic_rows_inherit_mined_weights_in_proxy_anchor():
    # Its formula written out: the mined weight less one is added inside of the log-sum-exp.
    case = next(case for case in PROXY_LOSSES if case.name == "ProxyAnchorLoss")
    x, y = draw_batch(3, batch_size=14)
    see = SphericalEmbeddingExpansion(3, 0.3, seed=1)
    loss = with_regularizer(case, see)
    terms = []
    loss.embedding_regularizer.register_forward_hook(lambda *args: terms.append(args[2]))
    loss(x, y, triplets(y))

    see = SphericalEmbeddingExpansion(3, 0.3, seed=1)
    rows, row_labels, _, source = synthetic_parts(case, see, x, y, loss.proxies)
    weights = mined_weights(triplets(y), y, anchors_only=False)[source]
    assert 0 < weights.max() < 1, "the row named most often is to be missing among the sources"
    cosines = rows @ torch.nn.functional.normalize(loss.proxies).T
    positive = negative = 0
    for label in range(NUM_CLASSES):
        own = row_labels == label
        added = weights - 1
        pulls = (-32 * (cosines[:, label] - 0.1) + added)[own].exp().sum()
        pushes = (32 * (cosines[:, label] + 0.1) + added)[~own].exp().sum()
        positive = positive + torch.log1p(pulls) * bool(own.any())
        negative = negative + torch.log1p(pushes)
    expected = positive / len(row_labels.unique()) + negative / NUM_CLASSES
    torch.testing.assert_close(terms[0], expected, **CLOSE)


class Weighed(Mirror):
    """Makes rows with weights from 0 to 1."""

    def synthesize(self, batch, generator):
        mirrored = super().synthesize(batch, generator)
        return replace(mirrored, weights=shares(len(batch)))


def shares(size):
    return torch.linspace(0, 1, size, dtype=torch.float64)


def weighed_elements(case, loss, x, y):
    bare = case.build_with(case.proxies(loss), reducer=reducers.DoNothingReducer())
    return bare(-x, y)["loss"]["losses"] * shares(len(x))


@pytest.mark.parametrize("reducer", ["default", "mean", "sum", "nothing", "multiple"])
def test_weights_are_divided_by_their_sum_where_the_reducer_is_a_mean(reducer):
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    x, y = draw_batch(0)
    loss = with_regularizer(case, Weighed(), reducer=REDUCERS[reducer](NUM_CLASSES))
    info = {}
    loss.embedding_regularizer.register_forward_hook(lambda *args: info.update(term=args[2]))
    loss(x, y)
    elements = weighed_elements(case, loss, x, y)
    divisor = 1 if reducer in ("sum", "multiple") else shares(len(x)).sum()
    torch.testing.assert_close(info["term"], elements.sum() / divisor, **CLOSE)


def test_joined_weights_are_summed_beside_a_regularizer():
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    x, y = draw_batch(0)
    options = {"embedding_regularizer": regularizers.LpRegularizer(), "embedding_reg_weight": 0}
    loss = build_loss(case, reducer=reducers.SumReducer(), **options)
    real = case.build_with(case.proxies(loss), reducer=reducers.SumReducer())(x, y)
    expected = real + weighed_elements(case, loss, x, y).sum()
    torch.testing.assert_close(SynthesisLoss(loss, Weighed())(x, y), expected, **CLOSE)


def test_shows_up_as_embedding_reg_loss():
    case = PROXY_LOSSES[0]
    loss = with_regularizer(case, ProxySynthesis(), reducer=reducers.DoNothingReducer())
    assert loss.sub_loss_names() == ["loss", "embedding_reg_loss"]
    loss_dict = loss(*draw_batch(0))
    assert loss_dict["embedding_reg_loss"]["losses"] > 0


def test_statistics_of_the_loss_stay_those_of_the_real_rows():
    case = next(case for case in PROXY_LOSSES if case.name == "ArcFaceLoss")
    x, y = draw_batch(0)
    plain = build_loss(case, collect_stats=True, distance=CosineSimilarity(collect_stats=True))
    plain(x, y)
    loss = with_regularizer(
        case,
        ProxySynthesis(collect_stats=True),
        collect_stats=True,
        distance=CosineSimilarity(collect_stats=True),
    )
    loss(x, y)
    assert loss.avg_angle == plain.avg_angle != 0
    norm = "initial_avg_query_norm"
    assert getattr(loss.distance, norm) == getattr(plain.distance, norm) != 0
    assert loss.embedding_regularizer.augmenter.num_rows == 12


def test_one_object_in_two_losses():
    x, y = draw_batch(0)
    shared = SynthesisRegularizer(ProxySynthesis(seed=1))
    one, other = (
        build_loss(case, embedding_regularizer=shared, embedding_reg_weight=WEIGHT)
        for case in PROXY_LOSSES[:2]
    )
    values = one(x, y), other(x.detach(), y.flip(0))
    augmenter = ProxySynthesis(seed=1)
    for case, labels, value in zip(PROXY_LOSSES, (y, y.flip(0)), values, strict=False):
        twin = build_loss(case)
        term = synthetic_loss(case, augmenter, x, labels, case.proxies(twin))
        torch.testing.assert_close(value, twin(x, labels) + WEIGHT * term, **CLOSE)
        augmenter.step += 1
    both = losses.MultipleLosses([one, other])
    both(x, y).backward()
    assert x.grad.isfinite().all()


def test_copies_made_before_and_after_attachment():
    x, y = draw_batch(0)
    case = PROXY_LOSSES[1]
    regularizer = SynthesisRegularizer(ProxySynthesis(seed=1))
    before = copy.deepcopy(regularizer)
    options = {"embedding_reg_weight": WEIGHT}
    original = build_loss(case, embedding_regularizer=regularizer, **options)
    after = copy.deepcopy(original)
    of_copy = build_loss(case, embedding_regularizer=before, **options)
    pickled = pickle.loads(pickle.dumps(original))
    expected = original(x, y)
    for loss in (after, of_copy, pickled):
        assert torch.equal(loss(x, y), expected)
    replaced = build_loss(case, **options)
    replaced.embedding_regularizer = copy.deepcopy(before)
    replaced.embedding_regularizer = SynthesisRegularizer(ProxySynthesis(seed=1))
    torch.testing.assert_close(replaced(x, y), expected, **CLOSE)


def test_keeps_nothing_of_a_call():
    x, y = draw_batch(0)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis())
    loss(x, y)
    assert current_call() is None
    regularizer, gone = loss.embedding_regularizer, weakref.ref(loss)
    del loss
    gc.collect()
    assert gone() is None and regularizer.augmenter.step == 1


def test_keeps_nothing_of_a_failed_call():
    x, y = draw_batch(0)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))
    with pytest.raises(ValueError, match="`labels` to be from 0 to 4, one per proxy, but got"):
        loss(x, y + 3)
    assert current_call() is None
    twin = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))
    assert torch.equal(loss(x, y), twin(x, y))


@all_losses
@pytest.mark.parametrize("outer", [None, ProxySynthesis(seed=2)], ids=["plain", "ps"])
def test_inside_of_a_synthesis_loss(case, outer):
    x, y = draw_batch(0)
    loss = with_regularizer(case, SphericalEmbeddingExpansion(3, 1.0, seed=1))
    plain = build_loss(case)
    inner = SphericalEmbeddingExpansion(3, 1.0, seed=1)
    term = synthetic_loss(case, inner, x, y, case.proxies(plain))
    value = SynthesisLoss(loss, copy.deepcopy(outer))(x, y)
    expected = SynthesisLoss(plain, copy.deepcopy(outer))(x, y) + WEIGHT * term
    torch.testing.assert_close(value, expected, **CLOSE)
    weight = getattr(loss, case.weight)
    value.backward()
    assert weight.grad.isfinite().all() and current_call() is None


def test_inside_of_a_synthesis_loss_it_knows_the_mined_tuple():
    x, y = draw_batch(3, batch_size=14)
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    terms = []
    for wrap in (lambda loss: loss, lambda loss: SynthesisLoss(loss, ProxySynthesis(seed=2))):
        loss = with_regularizer(case, SphericalEmbeddingExpansion(3, 1.0, seed=1))
        loss.embedding_regularizer.register_forward_hook(lambda *args: terms.append(args[2]))
        wrap(loss)(x, y, triplets(y))
    assert torch.equal(*terms)


def test_calls_leave_no_hooks_behind():
    x, y = draw_batch(0)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis())
    wrapped = SynthesisLoss(loss, ProxySynthesis())
    for _ in range(3):
        wrapped(x, y)
    assert len(loss._forward_pre_hooks) == len(loss._forward_hooks) == 0


def test_a_call_that_fails_before_it_begins_ends_no_other():
    x, y = draw_batch(0)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis())

    def fail(*_):
        raise KeyError("before")

    loss.register_forward_pre_hook(fail, prepend=True)
    outer = LossCall(build_loss(PROXY_LOSSES[1]), y, None)
    with announced(outer):
        with pytest.raises(KeyError, match="before"):
            loss(x, y)
        assert current_call() is outer


def test_inside_of_a_synthesis_loss_half_embeddings_leave_the_weight():
    x, y = draw_batch(0, dtype=torch.float16)
    for outer in (None, ProxySynthesis()):
        loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(), dtype=torch.float32)
        SynthesisLoss(loss, outer)(x, y).backward()
        assert loss.proxies.dtype == torch.float32


def test_inside_of_pmls_wrappers():
    x, y = draw_batch(0)
    expected = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))(x, y)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))
    assert torch.equal(distributed.DistributedLossWrapper(loss)(x, y), expected)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))
    assert torch.equal(losses.MultipleLosses([loss])(x, y), expected)


def test_labels_by_keyword():
    x, y = draw_batch(0)
    by_position = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))(x, y, triplets(y))
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1))
    assert torch.equal(loss(embeddings=x, indices_tuple=triplets(y), labels=y), by_position)


def test_state_dict_resumes(tmp_path):
    x, y = draw_batch(0)
    both = Compose([ProxySynthesis(seed=1), SphericalEmbeddingExpansion(3, 0.5, seed=1)])
    loss = with_regularizer(PROXY_LOSSES[1], both)
    loss(x, y)
    torch.save(loss.state_dict(), tmp_path / "loss.pth")
    others = Compose([ProxySynthesis(seed=7), SphericalEmbeddingExpansion(3, 0.5, seed=8)])
    other = with_regularizer(PROXY_LOSSES[1], others, seed=1)
    other.load_state_dict(torch.load(tmp_path / "loss.pth", weights_only=True))
    assert torch.equal(other(x, y), loss(x, y))


def test_repr_shows_the_augmenter():
    text = repr(with_regularizer(PROXY_LOSSES[1], ProxySynthesis(seed=1)))
    assert "ProxySynthesis(alpha=0.4, mu=1.0, seed=1)" in text


def test_given_to_something_that_is_no_proxy_loss():
    regularizer = SynthesisRegularizer(ProxySynthesis())
    message = "ProxySynthesis needs .*TripletMarginLoss keeps any is unknown.*register_prox"
    with pytest.raises(ValueError, match=message):
        losses.TripletMarginLoss(embedding_regularizer=regularizer)


def test_containers_may_hold_one():
    regularizer = SynthesisRegularizer(ProxySynthesis())
    torch.nn.ModuleList([regularizer])
    torch.nn.ModuleDict({"weight_regularizer": regularizer})


def test_called_by_another_loss_than_the_one_that_goes_on():
    x, y = draw_batch(0)
    regularizer = SynthesisRegularizer(ProxySynthesis())
    other = with_regularizer(PROXY_LOSSES[1], ProxySynthesis())
    message = "only inside of a loss"
    with announced(LossCall(other, y, None)), pytest.raises(RuntimeError, match=message):
        regularizer(x)
    assert current_call() is None


def test_announced_ends_after_an_error():
    with pytest.raises(KeyError), announced(LossCall(build_loss(PROXY_LOSSES[0]), None, None)):
        raise KeyError
    assert current_call() is None


def test_an_interrupted_call_leaves_nothing_behind():
    x, y = draw_batch(0)
    loss = with_regularizer(PROXY_LOSSES[1], ProxySynthesis())
    compute = loss.compute_loss

    def interrupted(*_):
        raise KeyboardInterrupt

    loss.compute_loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        loss(x, y)
    assert current_call() is None
    with pytest.raises(RuntimeError, match="only inside of a loss"):
        loss.embedding_regularizer(x)
    loss.compute_loss = compute
    loss(x, y)
    assert current_call() is None


class NoReduction(reducers.BaseReducer):
    """Gives a loss for each row."""

    def element_reduction(self, losses, *_):
        return losses


def test_a_reducer_that_gives_a_vector_is_replaced_by_the_default_one():
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    terms = []
    for reducer in (NoReduction(), None):
        loss = with_regularizer(case, ProxySynthesis(seed=1), reducer=reducer)
        if reducer is not None:
            # PML's MultipleReducers takes scalars alone.
            loss.reducer = reducer
        x, y = draw_batch(0)
        with announced(loss.embedding_regularizer.prepare_call(loss, x, y, None)):
            terms.append(loss.embedding_regularizer(x))
    torch.testing.assert_close(*terms)
    assert terms[0].shape == ()


def test_given_as_weight_regularizer():
    regularizer = SynthesisRegularizer(ProxySynthesis())
    message = "given to ProxyAnchorLoss as `weight_regularizer`; give it as `embedding_regularizer`"
    with pytest.raises(ValueError, match=message):
        losses.ProxyAnchorLoss(5, 8, weight_regularizer=regularizer)


def test_called_outside_of_a_loss():
    regularizer = SynthesisRegularizer(ProxySynthesis())
    x, y = draw_batch(0)
    message = r"only inside of a loss\. Give it to a loss as embedding_regularizer="
    with pytest.raises(RuntimeError, match=message):
        regularizer(x)
    loss = build_loss(PROXY_LOSSES[1], embedding_regularizer=regularizer)
    loss(x, y)
    with pytest.raises(RuntimeError, match=message):
        regularizer(x)


@pytest.mark.parametrize("augmenter", [None, "ps", torch.nn.Identity()])
def test_wrong_augmenter(augmenter):
    with pytest.raises(ValueError, match="`augmenter` to be an augmenter, but got"):
        SynthesisRegularizer(augmenter)


# ---------------------------------------------------------------- the weight of the term


def see_loss(augmenter=None, **options):
    augmenter = augmenter or SphericalEmbeddingExpansion(num_expansions=2, seed=0)
    regularizer = SynthesisRegularizer(augmenter)
    return losses.ProxyAnchorLoss(3, 16, embedding_regularizer=regularizer, **options)


BATCH = torch.ones(6, 16) + torch.eye(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(("augmenter", "weight"), [(None, 0.2), (EmbeddingMixup(seed=0), 0.4)])
def test_the_weight_that_nobody_gave_is_told(augmenter, weight):
    loss = see_loss(augmenter)
    with pytest.warns(UserWarning, match=f"weight 1, PML's default, but {weight} in its paper"):
        loss(*BATCH)


@pytest.mark.parametrize(
    "loss",
    [
        see_loss(embedding_reg_weight=0.2),
        see_loss(embedding_reg_weight=1.0),
        see_loss(ProxySynthesis(seed=0)),
        see_loss().eval(),
    ],
)
def test_a_weight_that_is_meant_is_not_told(loss):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(*BATCH)
