"""What is drawn is what is there."""

import copy
import random
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba, to_rgba_array
from sklearn.manifold import TSNE

import forked_processes
from cases import Mirror, draw_batch
from pml_synthesis import Compose, ProxySynthesis, SphericalEmbeddingExpansion
from pml_synthesis.schedules import CosineSchedule
from pml_synthesis.visualize import COLOURS, plot_cosines, plot_synthesis, proxy_cosines

ROOT = Path(__file__).parents[1]
KINDS = ["embedding", "synthetic embedding", "synthetic proxy", "proxy"]


@pytest.fixture(autouse=True)
def closed():
    plt.close("all")  # Examples of the pages leave theirs open.
    yield
    plt.close("all")


def draw_case(dim=8, num_classes=5, centers=None):
    x, y = draw_batch(0, num_classes=num_classes, dim=dim, order="balanced")
    shape = (num_classes, dim) if centers is None else (num_classes, centers, dim)
    return x, y, torch.randn(shape, dtype=torch.float64, requires_grad=True)


def see(**options):
    return SphericalEmbeddingExpansion(**{"num_expansions": 2, "fraction": 0.5} | options)


def artists(ax):
    return {points.get_label(): points for points in ax.collections if points.get_label() in KINDS}


def offsets(ax):
    return {kind: np.asarray(points.get_offsets()) for kind, points in artists(ax).items()}


def unit(vectors):
    values = vectors.detach().double().reshape(-1, vectors.shape[-1]).numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def expected_vectors(x, proxies, batch):
    """The unit vectors of each kind that is there."""
    vectors = zip(KINDS, (x, batch.embeddings, batch.proxies, proxies), strict=True)
    return {kind: unit(rows) for kind, rows in vectors if len(rows)}


# ---------------------------------------------------------------------- places


@pytest.mark.parametrize("centers", [None, 2])
@pytest.mark.parametrize("augmenter", [ProxySynthesis(mu=1.5), see()], ids=["ps", "see"])
def test_pca_is_numpys(augmenter, centers):
    x, y, p = draw_case(centers=centers)
    drawn = offsets(plot_synthesis(x, y, p, augmenter))
    vectors = expected_vectors(x, p, augmenter(x, y, p))
    assert drawn.keys() == vectors.keys()

    real = np.concatenate([vectors["embedding"], vectors["proxy"]])
    directions = np.linalg.svd(real - real.mean(axis=0))[2][:2].T
    signs = np.sign(drawn["proxy"][0] / ((vectors["proxy"][0] - real.mean(axis=0)) @ directions))
    for kind, rows in vectors.items():
        expected = (rows - real.mean(axis=0)) @ directions * signs
        np.testing.assert_allclose(drawn[kind], expected, atol=1e-9)


@pytest.mark.parametrize("augmenter", [ProxySynthesis(), see()], ids=["ps", "see"])
def test_the_sphere_is_seen_from_where_the_embeddings_are(augmenter):
    x, y, p = draw_case(dim=3)
    ax = plot_synthesis(x, y, p, augmenter)
    drawn, vectors = offsets(ax), expected_vectors(x, p, augmenter(x, y, p))
    assert drawn.keys() == vectors.keys()

    # One rotation takes all of them to the picture.
    view = np.linalg.lstsq(vectors["embedding"], drawn["embedding"], rcond=None)[0]
    np.testing.assert_allclose(view.T @ view, np.eye(2), atol=1e-9)
    towards_viewer = np.cross(*view.T)
    real = np.concatenate([vectors["embedding"], vectors["proxy"]])
    mean = real.mean(axis=0)
    np.testing.assert_allclose(towards_viewer, mean / np.linalg.norm(mean), atol=1e-6)
    for kind, rows in vectors.items():
        np.testing.assert_allclose(drawn[kind], rows @ view, atol=1e-9)
        far = rows @ towards_viewer < 0
        assert far.any() or kind != "embedding"
        np.testing.assert_allclose(artists(ax)[kind].get_alpha(), np.where(far, 0.3, 1))


def test_opposite_embeddings_are_seen_from_somewhere():
    x = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 2], [0, 0, -2]])
    drawn = offsets(plot_synthesis(x, torch.tensor([0, 0, 1, 1]), None))["embedding"]
    assert np.isfinite(drawn).all()
    assert np.linalg.matrix_rank(drawn) == 2


def test_tsne_is_scikit_learns():
    x, y, p = draw_case()
    augmenter = ProxySynthesis()
    drawn = offsets(plot_synthesis(x, y, p, augmenter, projection="tsne"))
    vectors = expected_vectors(x, p, augmenter(x, y, p))
    everything = np.concatenate(list(vectors.values()))
    tsne = TSNE(perplexity=(len(everything) - 1) / 3, random_state=0)
    expected = tsne.fit_transform(everything)
    np.testing.assert_allclose(np.concatenate(list(drawn.values())), expected, rtol=1e-4)


def test_lines_lead_from_each_source_to_what_was_made_of_it():
    x, y, p = draw_case()
    augmenter = see()
    ax = plot_synthesis(x, y, p, augmenter)
    source, drawn = augmenter(x, y, p).source.numpy(), offsets(ax)
    (line,) = ax.lines
    ends = line.get_xydata().reshape(len(source), 3, 2)
    np.testing.assert_allclose(ends[:, 0], drawn["embedding"][source])
    np.testing.assert_allclose(ends[:, 1], drawn["synthetic embedding"])
    assert np.isnan(ends[:, 2]).all()


def test_a_batch_is_drawn_like_the_augmenter_that_made_it():
    x, y, p = draw_case()
    for augmenter in (ProxySynthesis(), see()):
        one, other = offsets(plot_synthesis(x, y, p, augmenter)), augmenter(x, y, p)
        assert str(one) == str(offsets(plot_synthesis(x, y, p, other)))


def test_without_anything_synthetic_and_without_proxies():
    x, y, p = draw_case()
    ax = plot_synthesis(x, y, p)
    assert list(artists(ax)) == ["embedding", "proxy"]
    assert not ax.lines
    assert list(artists(plot_synthesis(x, y, None))) == ["embedding"]


def test_what_a_model_computes_can_be_drawn():
    """With a graph, in half precision, with other integer labels."""
    x, y, p = draw_case()
    expected = offsets(plot_synthesis(x.half(), y, p.half()))
    got = offsets(plot_synthesis(x.half() * 3, y.to(torch.uint8), p.half() / 2))
    for kind in expected:
        np.testing.assert_allclose(got[kind], expected[kind], atol=1e-2)


# ---------------------------------------------------------------- colours and names


@pytest.mark.parametrize("centers", [None, 2])
def test_colours_are_those_of_classes_and_sources(centers):
    x, y, p = draw_case(centers=centers)
    augmenter = Compose([ProxySynthesis(), see()])
    chosen = y.remainder(3) != 1
    x, y = x[chosen], y[chosen]
    points = artists(plot_synthesis(x, y, p, augmenter))
    place = {label: i for i, label in enumerate(sorted(set(y.tolist())))}
    assert list(place) == [0, 2, 3]

    of_rows = [COLOURS[place[label]] for label in y.tolist()]
    source = augmenter(x, y, p).source.tolist()
    of_proxies = [COLOURS[place[label]] for label in place for _ in range(centers or 1)]
    np.testing.assert_array_equal(points["embedding"].get_facecolors(), to_rgba_array(of_rows))
    np.testing.assert_array_equal(points["proxy"].get_facecolors(), to_rgba_array(of_proxies))
    made = points["synthetic embedding"]
    np.testing.assert_array_equal(
        made.get_edgecolors(), to_rgba_array([of_rows[row] for row in source])
    )
    assert {tuple(face) for face in made.get_facecolors()} == {to_rgba("white")}


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_legend_names_classes_and_kinds():
    x, y, p = draw_case(num_classes=3)
    ax = plot_synthesis(x, y, p, ProxySynthesis(), class_names=["ant", "bee", "cat", "dog"])
    assert legend_of(ax) == ["ant", "bee", "cat", *KINDS]
    colours = [to_rgba(handle.get_color()) for handle in ax.get_legend().legend_handles[:3]]
    assert colours == [to_rgba(colour) for colour in COLOURS[:3]]
    ax = plot_synthesis(x[y != 1], y[y != 1], p, see())
    assert legend_of(ax) == ["class 0", "class 2", *KINDS[:2], KINDS[3]]


def test_names_are_drawn_as_they_are():
    # The first two would fail as formulas, the third is a folder's name that is no UTF-8.
    x, y, p = draw_case(num_classes=3)
    ax = plot_synthesis(x, y, p, class_names=["$$x^^$$", "$\\frac{$", "caf\udce9"])
    ax.figure.canvas.draw()
    assert legend_of(ax)[:3] == ["$$x^^$$", "$\\frac{$", "caf?"]


@pytest.mark.parametrize("projection", ["sphere", "pca", "tsne"])
def test_nothing_is_cut_off(projection):
    x, y, p = draw_case(dim=3)
    names = ["a name that is rather long", *"bcde"]
    ax = plot_synthesis(x, y, p, ProxySynthesis(), projection=projection, class_names=names)
    ax.figure.canvas.draw()
    inside = ax.figure.bbox
    labels = [label for label in (ax.xaxis.label, ax.yaxis.label) if label.get_text()]
    assert len(labels) == {"sphere": 0, "pca": 2, "tsne": 1}[projection]
    for artist in (ax.get_legend(), *labels, *artists(ax).values()):
        box = artist.get_window_extent()
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, artist
        assert inside.y0 <= box.y0 and box.y1 <= inside.y1, artist


def test_given_axes_are_drawn_on():
    x, y, p = draw_case(dim=3)
    figure, (left, right) = plt.subplots(1, 2)
    assert plot_synthesis(x, y, p, ax=left) is left
    assert plot_cosines(torch.zeros(2), torch.zeros(2), ax=right) is right
    assert plt.get_fignums() == [figure.number]


def test_the_pictures_of_the_page_can_be_made_again(tmp_path):
    script = runpy.run_path(str(ROOT / "docs" / "pictures" / "make_visualize.py"))
    script["main"](tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    page = (ROOT / "docs" / "visualize.md").read_text()
    assert set(re.findall(r"\(pictures/(\w+\.png)\)", page)) == made


# ------------------------------------------------------------- nothing changes by it


AUGMENTERS = {
    "ps": ProxySynthesis,
    "see": lambda **options: see(fraction=CosineSchedule(0.0, 1.0, num_steps=4), **options),
    "both": lambda **options: Compose([ProxySynthesis(**options), see(**options)]),
}


@pytest.mark.parametrize("make", AUGMENTERS.values(), ids=AUGMENTERS)
def test_a_picture_changes_nothing_and_shows_the_next_draw(make):
    x, y, p = draw_case()
    augmenter = make(collect_stats=True)
    for _ in range(2):
        augmenter(x, y, p)
    before = copy.deepcopy(augmenter)
    shared = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    drawn = offsets(plot_synthesis(x, y, p, augmenter))

    for part, other in zip(augmenter.modules(), before.modules(), strict=True):
        public = [{k: v for k, v in vars(m).items() if k != "_modules"} for m in (part, other)]
        assert str(public[0]) == str(public[1])
    assert torch.equal(torch.get_rng_state(), shared[0])
    assert np.random.get_state()[1].tolist() == shared[1]
    assert random.getstate() == shared[2]
    assert x.grad is None and p.grad is None
    assert x.requires_grad and p.requires_grad

    next_batch = augmenter(x, y, p)
    assert len(next_batch) > 0
    again = offsets(plot_synthesis(x, y, p, next_batch))
    np.testing.assert_allclose(drawn["synthetic embedding"], again["synthetic embedding"])


# ----------------------------------------------------------------------- cosines


@pytest.mark.parametrize("centers", [None, 3])
def test_proxy_cosines_written_out(centers):
    x, y, p = draw_case(centers=centers)
    own, other = proxy_cosines(x, y, p)
    rows, centres = unit(x), unit(p).reshape(5, centers or 1, 8)
    for i, label in enumerate(y.tolist()):
        cosines = [max(float(rows[i] @ centre) for centre in centres[c]) for c in range(5)]
        assert own[i].item() == pytest.approx(cosines.pop(label), abs=1e-9)
        assert other[i].item() == pytest.approx(max(cosines), abs=1e-9)
    assert not own.requires_grad


def test_histograms_and_medians():
    own = torch.tensor([1 + 1e-6, 0.99, 0.512, 0.5], requires_grad=True)
    other = torch.tensor([0.1, -1.0, 0.3])
    ax = plot_cosines(own, other)
    solid, line = ax.patches
    # Outlines of histograms: up to each height, and down at the end.
    for patch, values in ((solid, own), (line, other)):
        heights, edges = np.histogram(values.detach().clamp(-1, 1), np.linspace(-1, 1, 81))
        drawn = {tuple(point) for point in np.round(patch.get_xy(), 6)}
        for height, left in zip(heights, edges, strict=False):
            assert (round(left, 6), round(100 * height / len(values), 6)) in drawn
    assert legend_of(ax) == ["own proxy\nmedian 0.51", "nearest other proxy\nmedian 0.10"]
    assert ax.get_xlabel() == "cosine to a proxy"


# ------------------------------------------------------------------------- errors


def test_an_augmenter_that_needs_no_proxies():
    x, y, _ = draw_case()
    assert list(artists(plot_synthesis(x, y, None, Mirror()))) == KINDS[:2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": torch.zeros(12)}, r"`embeddings` to be of shape \[B, D\], but got \(12,\)"),
        ({"embeddings": torch.zeros(12, 7)}, r"`proxies` .*\[C, 7\].*, but got \(5, 8\)"),
        ({"embeddings": torch.full((12, 8), torch.nan)}, "`embeddings` to be finite"),
        ({"labels": torch.arange(12)}, "`labels` to be from 0 to 4.* from 0 to 11"),
        ({"proxies": None}, "`proxies` to be the class proxies, which ProxySynthesis needs"),
        ({"proxies": torch.full((5, 8), torch.inf)}, "`proxies` to be finite"),
        ({"synthetic": "ps"}, "`synthetic` to be an augmenter, .* but got 'ps'"),
        ({"synthetic": torch.nn.Linear(2, 2)}, "`synthetic` to be an augmenter.* got Linear"),
        ({"projection": "umap"}, "`projection` to be 'sphere', 'pca' or 'tsne', but got 'umap'"),
        ({"projection": "sphere"}, "`projection` to be 'pca' or 'tsne' for a width of 8"),
        ({"class_names": ["a", "b"]}, r"`class_names` to be a name for each class up to 4.*'b'\]"),
        ({"ax": "3d"}, "`ax` to be flat axes"),
    ],
)
def test_wrong_arguments_of_plot_synthesis(change, message):
    x, y, p = draw_case()
    given = {"embeddings": x, "labels": y, "proxies": p, "synthetic": ProxySynthesis()} | change
    if "ax" in change:
        given["ax"] = plt.figure().add_subplot(projection="3d")
    with pytest.raises(ValueError, match=message):
        plot_synthesis(**given)
    assert len(plt.get_fignums()) == ("ax" in change), "no figure is left behind"


def test_no_embeddings_and_embeddings_of_width_1():
    for shape in ((0, 8), (4, 1)):
        with pytest.raises(ValueError, match=r"`embeddings` to be of shape \[1, 2\] at least"):
            plot_synthesis(torch.zeros(shape), torch.zeros(shape[0]).long(), None)


def test_more_classes_than_colours():
    x, y = torch.randn(9, 4), torch.arange(9)
    with pytest.raises(ValueError, match="at most 7 classes.*labels < 7.* but got 9"):
        plot_synthesis(x, y, torch.randn(9, 4))
    shown = y < 7
    ax = plot_synthesis(x[shown], y[shown], torch.randn(9, 4))
    assert len(offsets(ax)["proxy"]) == len({*COLOURS}) == 7


def test_a_batch_made_of_other_embeddings():
    x, y, p = draw_case()
    batch = ProxySynthesis()(x, y, p)
    with pytest.raises(ValueError, match="`synthetic` to be made of the 3 embeddings"):
        plot_synthesis(x[:3], y[:3], p, batch)
    with pytest.raises(ValueError, match="`synthetic` to be as wide as the embeddings, 9.* 8"):
        plot_synthesis(torch.zeros(12, 9), y, torch.zeros(5, 9), batch)


def test_wrong_arguments_of_cosines():
    x, y, p = draw_case()
    with pytest.raises(ValueError, match=r"`proxies` to be .*\[C, 7\]"):
        proxy_cosines(x[:, :7], y, p)
    with pytest.raises(ValueError, match="`proxies` to be of at least two classes"):
        proxy_cosines(x, torch.zeros_like(y), p[:1])
    with pytest.raises(ValueError, match="`proxies` to be a tensor"):
        proxy_cosines(x, y, None)
    good = torch.zeros(3)
    for wrong in (x, good[:0], good + 1.1, good * torch.nan):
        with pytest.raises(ValueError, match="`own` to be cosines"):
            plot_cosines(wrong, good)
        with pytest.raises(ValueError, match="`other` to be cosines"):
            plot_cosines(good, wrong)
    assert not plt.get_fignums(), "no figure is left behind"


WITHOUT_MATPLOTLIB = """
import sys
for name in list(sys.modules):
    if name.partition(".")[0] in ("matplotlib", "pml_synthesis"):
        del sys.modules[name]
sys.modules["matplotlib"] = None
import pml_synthesis
try:
    import pml_synthesis.visualize
except ImportError as error:
    print(error)
"""


def test_the_core_needs_no_matplotlib_and_pictures_say_that_they_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_MATPLOTLIB)
    process = forked_processes.started(tmp_path, forked_processes.script, str(script))
    code = forked_processes.ended(process)
    printed = (tmp_path / forked_processes.OUTPUT).read_text()
    assert code == 0 and "pip install matplotlib" in printed, printed
