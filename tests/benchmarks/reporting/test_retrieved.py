"""What is retrieved: what runs and comparisons leave for its pictures, and what is drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from benchmarks import files
from benchmarks.datasets import ImageClasses, ImageFiles
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError
from benchmarks.evaluation.hits import SHOWN, average_precision, save_hits
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.evaluation.retrieval import RetrievalAccuracy
from benchmarks.reporting import retrieved
from benchmarks.results import paths
from benchmarks.results.examples import choose, save_examples, small_image
from benchmarks.training.run import execute
from few_glyphs import patterns
from trained_run import patterns_run


def random_embeddings(count: int = 40, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (count,))
    labels[0] = classes  # alone in its class
    return torch.nn.functional.normalize(torch.randn(count, 6)), labels


@pytest.mark.parametrize("with_gallery", [False, True])
def test_the_mean_of_the_average_precisions_is_map_at_r(with_gallery, tmp_path):
    embeddings, labels = random_embeddings()
    queries = slice(0, 15) if with_gallery else slice(None)
    gallery = slice(15, None) if with_gallery else slice(None)
    calculator = RetrievalAccuracy([2])
    metrics = calculator.get_accuracy(
        *(embeddings[queries], labels[queries], embeddings[gallery], labels[gallery]),
        ref_includes_query=not with_gallery,
    )
    searched = labels[gallery] if with_gallery else None
    save_hits(calculator.knn_func.neighbours, labels[queries], searched, tmp_path / "hits.pt")
    hits = files.load(tmp_path / "hits.pt")
    found = hits["average_precision"]
    assert found[0].isnan() and found[1:].isfinite().all()
    assert found.nanmean().item() == pytest.approx(metrics[MAIN_METRIC], abs=1e-6)
    expected = AccuracyCalculator(include=(MAIN_METRIC,), k=30, return_per_class=False)
    assert expected.get_accuracy(
        *(embeddings[queries], labels[queries], embeddings[gallery], labels[gallery]),
        ref_includes_query=not with_gallery,
    )[MAIN_METRIC] == pytest.approx(found.nanmean().item(), abs=1e-6)

    similarity = embeddings[queries] @ embeddings[gallery].T
    if not with_gallery:
        similarity.fill_diagonal_(-2)
    nearest = similarity.argsort(dim=1, descending=True)[:, :SHOWN]
    assert torch.equal(hits["neighbours"].long(), nearest)
    assert torch.equal(hits["right"], labels[gallery][nearest] == labels[queries][:, None])


def test_average_precision_by_its_formula():
    torch.manual_seed(0)
    right, relevant = torch.rand(20, 9) < 0.5, torch.randint(1, 9, (20,))
    expected = [
        sum(right[i, : k + 1].float().mean() for k in range(r) if right[i, k]) / r
        for i, r in enumerate(relevant.tolist())
    ]
    found = average_precision(right, relevant)
    np.testing.assert_allclose(found, torch.tensor(expected), atol=1e-6)


def test_the_highest_and_the_lowest_are_of_different_classes_and_none_is_both():
    scores = torch.tensor([0.5, 0.9, 0.8, torch.nan, 0.1, 0.1, 0.9])
    labels = torch.tensor([0, 1, 1, 2, 3, 4, 0])
    assert choose(scores, labels, 2) == ([6, 1], [4, 5])
    assert choose(scores[:2], labels[:2], 3) == ([1, 0], [])
    assert choose(torch.full((3,), torch.nan), labels[:3], 3) == ([], [])


@pytest.mark.parametrize(("channels", "size"), [(1, 20), (3, 20), (4, 20), (3, 200)])
def test_small_images_are_as_in_the_dataset_before_its_transform(channels, size):
    images = torch.rand(2, channels, size, size)
    dataset = ImageClasses(images, torch.tensor([0, 1]), ["a", "b"], transform=torch.zeros_like)
    small = small_image(dataset, 1)
    assert small.dtype == torch.uint8 and small.shape == (min(size, 64), min(size, 64), 3)
    expected = images[1] if channels == 3 else images[1].mean(dim=0).expand(3, -1, -1)
    if size == 20:
        np.testing.assert_allclose(small / 255, expected.permute(1, 2, 0), atol=0.003)


def test_small_images_of_files_keep_their_proportions(tmp_path):
    Image.new("RGB", (200, 100), (255, 0, 0)).save(tmp_path / "a.png")
    dataset = ImageClasses(ImageFiles([tmp_path / "a.png"]), torch.tensor([0]), ["a"])
    assert small_image(dataset, 0).shape == (32, 64, 3)


def test_what_is_not_between_0_and_1_is_scaled_to_it():
    images = torch.tensor([-1.0, 0.0, 3.0, 1.0]).view(1, 1, 2, 2)
    small = small_image(ImageClasses(images, torch.tensor([0]), ["a"]), 0)
    assert small[..., 0].flatten().tolist() == [0, 64, 255, 128]


# ---------------------------------------------------------------- comparisons


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(patterns("train"), None, patterns("test"))


@pytest.fixture(scope="module")
def folder(splits, tmp_path_factory) -> Path:
    """The folder of a baseline with the seeds 0 and 1, and a method with the seed 1."""
    folder = tmp_path_factory.mktemp("retrieved")
    for variant, seed in (("plain", 0), ("plain", 1), ("plain+ps", 1)):
        run = patterns_run(variant, seed)
        execute(run, splits, paths.run_folder(folder, run))
    save_examples(folder, {"plain": None, "plain+ps": "plain", "later": "plain"}, splits)
    return folder


def hits_of(folder: Path, variant: str, seed: int) -> dict[str, torch.Tensor]:
    return files.load(folder / variant / f"seed_{seed}" / paths.HITS)


def test_a_run_leaves_the_hits_of_its_test(folder):
    metrics = (folder / "plain" / "seed_0" / "metrics.csv").read_text().splitlines()
    figure = float(metrics[-1].split(",")[metrics[0].split(",").index(MAIN_METRIC)])
    hits = hits_of(folder, "plain", 0)
    assert hits["average_precision"].mean().item() == pytest.approx(figure, abs=1e-6)


def test_a_method_is_shown_where_it_gains_and_loses_most(folder, splits):
    examples = files.load(folder / "plain+ps" / paths.EXAMPLES)
    assert list(examples["variants"]) == ["plain", "plain+ps"]
    before, after = (
        hits_of(folder, name, 1)["average_precision"] for name in ("plain", "plain+ps")
    )
    gains = after - before
    shown = [one["average_precision"] for one in examples["variants"].values()]
    changes, first = (shown[1] - shown[0]).tolist(), examples["of_the_first_kind"]
    assert changes[0] == gains.max() > 0 and changes[first] == gains.min() < 0
    assert all(change > 0 for change in changes[:first])
    assert all(change < 0 for change in changes[first:])
    row = int(gains.argmax())
    assert torch.equal(examples["queries"][0], small_image(splits.test, row))
    places = hits_of(folder, "plain+ps", 1)["neighbours"][row].tolist()
    hits = examples["variants"]["plain+ps"]["hits"][0]
    assert all(map(torch.equal, hits, [small_image(splits.test, place) for place in places]))


def test_a_variant_without_a_baseline_is_shown_where_it_is_best_and_worst(folder):
    examples = files.load(folder / "plain" / paths.EXAMPLES)
    (shown,) = examples["variants"].values()
    every = hits_of(folder, "plain", 0)["average_precision"]
    first = examples["of_the_first_kind"]
    assert shown["average_precision"][0] == every.max()
    assert shown["average_precision"][first] == every.min()


def test_pictures_are_drawn_from_files_alone_and_always_the_same(folder, tmp_path):
    first = [path.read_bytes() for path in retrieved.draw(["plain", "plain+ps", "later"], folder)]
    again = retrieved.draw(["plain", "plain+ps", "later"], folder)
    assert [path.name for path in again] == ["retrieval_plain.png", "retrieval_plain+ps.png"]
    assert [path.read_bytes() for path in again] == first


def test_right_and_wrong_differ_in_colour_and_mark(folder, monkeypatch):
    figures = {}
    monkeypatch.setattr(retrieved, "save", lambda drawn, folder: figures.update(drawn) or [])
    retrieved.draw(["plain+ps"], folder)
    (axes,) = figures["retrieval_plain+ps.png"].axes
    examples = files.load(folder / "plain+ps" / paths.EXAMPLES)
    right = torch.cat([one["right"].flatten() for one in examples["variants"].values()])
    marks = [(line.get_color(), line.get_marker()) for line in axes.lines]
    assert marks.count(retrieved.RIGHT) == right.sum() > 0
    assert marks.count(retrieved.WRONG) == (~right).sum() > 0
    assert len(axes.images) == len(right) + len(examples["queries"])


def test_names_of_classes_and_variants_are_no_formulas(folder, tmp_path):
    examples = files.load(folder / "plain" / paths.EXAMPLES)
    names = ["$$x^^$$", "caf\udce9"]
    examples["class_names"] = [names[i % 2] for i in range(len(examples["class_names"]))]
    examples["variants"] = {"$\\frac{$": examples["variants"]["plain"]}
    (tmp_path / "plain").mkdir()
    files.save(examples, tmp_path / "plain" / paths.EXAMPLES)
    assert len(retrieved.draw(["plain"], tmp_path)) == 1


def test_without_test_images_nothing_is_left(splits, tmp_path):
    save_examples(tmp_path, {"plain": None}, Splits(splits.train, splits.test, None))
    assert not any(tmp_path.iterdir())


def test_damaged_examples_are_named(folder, tmp_path):
    (tmp_path / "plain").mkdir()
    path = tmp_path / "plain" / paths.EXAMPLES
    path.write_bytes(b"no")
    with pytest.raises(SettingsError, match=f"{path} is damaged .*Delete it"):
        retrieved.draw(["plain"], tmp_path)
