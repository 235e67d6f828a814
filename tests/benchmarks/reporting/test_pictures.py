"""The pictures of embeddings: what a run leaves for them, and what a report draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot

import benchmarks
from benchmarks import files
from benchmarks.datasets.splits import Splits
from benchmarks.reporting import pictures
from benchmarks.results import paths
from benchmarks.settings.reading import load
from benchmarks.training import views
from benchmarks.training.assembly import Parts
from benchmarks.training.run import execute
from few_glyphs import patterns
from pml_synthesis import SyntheticBatch
from pml_synthesis.losses import proxies_of
from pml_synthesis.visualize import plot_synthesis, proxy_cosines

CONFIG = Path(benchmarks.__file__).parent / "configs" / "glyphs.yaml"
BRIEF = ("epochs=1", "iterations_per_epoch=2", "batch_size=32", "seeds=[0]")


def parts_of(variant: str, splits: Splits, *overrides: str) -> Parts:
    """Return the parts of a run before its first step; transforms of evaluation multiply by 3."""
    scaled = "transforms.eval=[{few_glyphs.Scaled: {by: 3}}]"
    (run,) = load(CONFIG, [*BRIEF, scaled, *overrides], [variant], ["few_glyphs"]).runs
    return Parts(run, splits)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(patterns("train", 16, count=10), patterns("val"), patterns("test"))


@pytest.mark.parametrize(
    ("variant", "rows", "has_new_classes"),
    [("proxy_nca", None, False), ("proxy_nca+ps", 16, True), ("proxy_anchor+see", 6 * 8, False)],
)
def test_a_view_is_what_the_models_make_of_training_images(
    variant, rows, has_new_classes, splits, tmp_path, monkeypatch
):
    monkeypatch.setattr(views, "IMAGES", 50)
    parts = parts_of(variant, splits)
    for module in parts.losses["metric_loss"].modules():
        # Late in training, SEE expands the fraction of the paper.
        vars(module).update({"step": 10**6} if hasattr(module, "step") else {})
    views.save_view(parts, tmp_path)
    view = files.load(tmp_path / paths.VIEW)

    with torch.no_grad():
        images = 3 * splits.train.images
        everything = parts.models["embedder"].eval()(parts.models["trunk"].eval()(images))
    everything = torch.nn.functional.normalize(everything)
    labels, proxies = splits.train.labels, proxies_of(parts.losses["metric_loss"])

    few = [10 * label + i for label in range(4) for i in range(4)]
    embeddings, shown_labels, shown_proxies = view["batch"]
    torch.testing.assert_close(embeddings, everything[few])
    assert torch.equal(shown_labels, labels[few])
    assert torch.equal(shown_proxies, proxies[:4])
    assert view["class_names"] == tuple(f"train {i}" for i in range(4))
    many = np.linspace(0, 159, 50).astype(int)
    torch.testing.assert_close(
        view["cosines"], proxy_cosines(everything[many], labels[many], proxies)
    )
    made = view["synthetic"]
    assert (made and len(made["embeddings"])) == rows
    assert bool(made and len(made["proxies"])) == has_new_classes
    kept = [*view["batch"], *view["cosines"], *(made or {}).values()]
    size = sum(tensor.nbytes for tensor in kept)
    assert (tmp_path / paths.VIEW).stat().st_size < size + 8000, "parts of tensors alone"


MEMORY = (
    "variants.proxy_nca+ps.loss.SynthesisLoss.augmenter="
    "{MemVir: {batch_size: 32, num_steps: 1, step_gap: 0, warm_up_steps: 0}}"
)


def test_a_view_shows_what_a_memory_has_of_the_first_classes(splits, tmp_path):
    parts = parts_of("proxy_nca+ps", splits, MEMORY)
    parts.trainer(None).train(1, 1)
    views.save_view(parts, tmp_path)
    made = files.load(tmp_path / paths.VIEW)["synthetic"]
    new = made["labels"].unique().tolist()
    assert new == list(range(4, 4 + len(made["proxies"]))) and 0 < len(new) <= 4
    assert (made["source"] == -1).all() and len(made["embeddings"]) == len(made["labels"])
    _, labels, proxies = files.load(tmp_path / paths.VIEW)["batch"]
    axes = plot_synthesis(torch.randn(len(labels), 64), labels, proxies, SyntheticBatch(**made))
    assert len(axes.collections) == 4 and not axes.lines
    pyplot.close(axes.figure)


def test_a_run_leaves_a_view_of_the_models_that_it_keeps(splits, tmp_path):
    parts = parts_of("proxy_nca+ps", splits)
    execute(parts.run, splits, tmp_path)
    for name, weights in files.load(tmp_path / paths.MODELS).items():
        (parts.models | parts.losses)[name].load_state_dict(weights)
    left = files.load(tmp_path / paths.VIEW)
    views.save_view(parts, tmp_path)
    again = files.load(tmp_path / paths.VIEW)
    assert left.pop("class_names") == again.pop("class_names")
    torch.testing.assert_close(left, again)


@pytest.mark.parametrize(
    ("variant", "overrides", "not_finite"),
    [
        ("raw_pixels", [], None),
        ("proxy_nca", ["variants.proxy_nca.loss={TripletMarginLoss: {}}"], None),
        ("proxy_nca", [], "metric_loss"),
        ("proxy_nca", [], "embedder"),
    ],
)
def test_without_proxies_or_numbers_there_is_no_view(
    variant, overrides, not_finite, splits, tmp_path
):
    parts = parts_of(variant, splits, *overrides)
    if not_finite:
        next((parts.losses | parts.models)[not_finite].parameters()).data[0] = torch.nan
    views.save_view(parts, tmp_path)
    assert not any(tmp_path.iterdir())


def test_one_class_has_no_other_proxy(splits, tmp_path):
    one = replace(splits, train=patterns("train", 1, count=64))
    views.save_view(parts_of("proxy_nca", one), tmp_path)
    assert not any(tmp_path.iterdir())


def leave(folder: Path, variant: str, seed: int, synthetic: bool) -> None:
    """Leave a view with cosines that tell the seed."""
    torch.manual_seed(seed)
    embeddings, labels, proxies = torch.randn(6, 4), torch.arange(6) % 3, torch.randn(3, 4)
    made = {"embeddings": embeddings * 2 + 1, "labels": labels, "source": torch.arange(6)}
    view = {
        "batch": (embeddings, labels, proxies),
        "class_names": ("a", "b", "c"),
        "synthetic": made | {"proxies": proxies[:0]} if synthetic else None,
        "cosines": (torch.full((4,), seed / 10), torch.zeros(4)),
    }
    (folder / variant / f"seed_{seed}").mkdir(parents=True)
    files.save(view, folder / variant / f"seed_{seed}" / paths.VIEW)


def test_each_method_is_drawn_beside_its_baseline_for_the_first_seed_of_both(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(pictures, "save", lambda drawn, folder: figures.update(drawn) or [])
    for seed in (1, 2, 3):
        leave(tmp_path, "plain", seed, synthetic=False)
        leave(tmp_path, "tuned", seed, synthetic=False)
    for seed in (2, 3):
        leave(tmp_path, "plain+ps", seed, synthetic=True)
    table = [("plain", 3), ("plain", 2), ("plain", 1), ("plain+ps", 3), ("plain+ps", 2)]
    # Of "older" the runs left no views, "other" has no baseline, and "unfinished" no runs.
    table += [("tuned", 1), ("older", 2), ("other", 2)]
    runs = pd.DataFrame(table, columns=["variant", "seed"])
    baselines = dict.fromkeys(["tuned", "plain+ps", "older", "unfinished"], "plain")
    pictures.draw(runs, {"plain": None, "other": None} | baselines, tmp_path)
    assert list(figures) == ["embeddings_plain+ps.png", "cosines_plain+ps.png"]

    left, right = figures["embeddings_plain+ps.png"].axes
    assert (left.get_title(), right.get_title()) == ("plain", "plain + ps")
    assert [len(points.get_offsets()) for points in left.collections] == [6, 3]
    assert [len(points.get_offsets()) for points in right.collections] == [6, 6, 3]
    caption = figures["embeddings_plain+ps.png"].get_suptitle()
    assert caption == "6 images of the first 3 training classes"
    names = [text.get_text() for text in right.get_legend().get_texts()]
    assert names == ["a", "b", "c", "embedding", "synthetic embedding", "proxy"]
    above, below = figures["cosines_plain+ps.png"].axes
    assert (above.get_title(), below.get_title()) == ("plain", "plain + ps")
    for axes in (above, below):
        assert axes.get_legend().get_texts()[0].get_text() == "own proxy\nmedian 0.20"


def test_pictures_are_saved(tmp_path):
    leave(tmp_path, "plain", 0, synthetic=False)
    leave(tmp_path, "plain+ps", 0, synthetic=True)
    runs = pd.DataFrame({"variant": ["plain", "plain+ps"], "seed": 0})
    paths = pictures.draw(runs, {"plain": None, "plain+ps": "plain"}, tmp_path)
    assert [path.name for path in paths] == ["embeddings_plain+ps.png", "cosines_plain+ps.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
