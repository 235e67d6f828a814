"""What a comparison leaves for pictures of what is retrieved: a few queries with their first hits.

Reports are made of files alone, so the images of these queries are kept beside the results.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks import files
from benchmarks.datasets import ImageClasses
from benchmarks.datasets.image_files import pixels
from benchmarks.datasets.splits import Splits
from benchmarks.results import paths, reading

QUERIES = 3  # at each end
LARGEST = 64  # pixels of a side of an image that is kept


def save_examples(folder: Path, baselines: Mapping[str, str | None], splits: Splits) -> None:
    """Leave the queries that tell most of each variant, beside its baseline if it has one.

    These are the queries of the test whose average precision gains and loses most against the
    baseline, or without a baseline those with the highest and the lowest, of the first seed.

    Arguments:
        folder: of the comparison.
        baselines: what each variant is compared with.
        splits: the datasets.
    """
    if splits.test is None:
        return
    for variant, baseline in baselines.items():
        variants = [name for name in (baseline, variant) if name is not None]
        found = [_seeds_with_hits(folder, name) for name in variants]
        for seed in sorted(set.intersection(*found))[:1]:
            hits = {name: _read_hits(_path(folder, name, seed)) for name in variants}
            if examples := _examples(hits, splits.test, splits.gallery or splits.test):
                files.save(examples, folder / variant / paths.EXAMPLES)


def choose(scores: Tensor, labels: Tensor, queries: int = QUERIES) -> tuple[list[int], list[int]]:
    """Return the queries with the highest scores, and those with the lowest; one of each class.

    A query is in one of them alone, and one without a score (nan) in none.

    Example:
        >>> choose(torch.tensor([0.1, 0.9, 0.8, 0.2]), torch.tensor([0, 1, 1, 2]), queries=1)
        ([1], [0])
    """
    known = scores.isfinite().nonzero().flatten()
    order = known[scores[known].argsort(stable=True)].tolist()
    highest = _of_different_classes(order[::-1], labels, queries)
    rest = [row for row in order if row not in highest]
    return highest, _of_different_classes(rest, labels, queries)


def _of_different_classes(rows: list[int], labels: Tensor, count: int) -> list[int]:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(int(labels[row]), row)
        if len(first) == count:
            break
    return list(first.values())


def _examples(
    hits: dict[str, dict[str, Tensor]], test: ImageClasses, gallery: ImageClasses
) -> dict[str, Any]:
    *before, after = [of_variant["average_precision"] for of_variant in hits.values()]
    scores = after - before[0] if before else after
    ends = choose(scores, test.labels)
    if before:  # what neither gains nor loses shows nothing
        ends = ([i for i in ends[0] if scores[i] > 0], [i for i in ends[1] if scores[i] < 0])
    rows = [row for end in ends for row in end]
    if not rows:
        return {}
    return {
        "queries": [small_image(test, row) for row in rows],
        "class_names": [test.class_names[test.labels[row]] for row in rows],
        "of_the_first_kind": len(ends[0]),
        "variants": {
            name: {
                "average_precision": of_variant["average_precision"][rows],
                "right": of_variant["right"][rows],
                "hits": [
                    [small_image(gallery, place) for place in places]
                    for places in of_variant["neighbours"][rows].tolist()
                ],
            }
            for name, of_variant in hits.items()
        },
    }


def small_image(dataset: ImageClasses, row: int) -> Tensor:
    """Return an image as it is before all transforms, reduced: uint8 [H, W, 3].

    What is not in [0, 1] is scaled to it.
    """
    (image,) = dataset.images[torch.tensor([row])]
    if isinstance(image, Image.Image):
        image = pixels(image.convert("RGB"))
    image = image.float().cpu()
    if len(image) != 3:
        image = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    low, high = min(image.min().item(), 0.0), max(image.max().item(), 1.0)
    bytes_ = ((image - low) / (high - low) * 255).round().byte().permute(1, 2, 0).contiguous()
    picture = Image.fromarray(bytes_.numpy())
    picture.thumbnail((LARGEST, LARGEST))
    return (pixels(picture) * 255).round().byte().permute(1, 2, 0).contiguous()


def _seeds_with_hits(folder: Path, variant: str) -> set[int]:
    return {
        int(run.name.removeprefix("seed_"))
        for run in paths.runs_of(folder / variant)
        if (run / paths.HITS).exists() and paths.is_finished(run)
    }


def _path(folder: Path, variant: str, seed: int) -> Path:
    return folder / variant / f"seed_{seed}" / paths.HITS


def _read_hits(path: Path) -> dict[str, Tensor]:
    with reading.undamaged(path, "Delete it: reports then leave out what this run retrieves."):
        hits = files.load(path)
        if not hits.keys() >= {"average_precision", "neighbours", "right"}:
            raise ValueError("parts of it are missing")
        return hits
