"""Pictures of what is retrieved, from the examples that a comparison leaves."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from benchmarks import files
from benchmarks.reporting.plots import save
from benchmarks.results import paths, reading

CAPTION = (
    "Test images (left, with their classes) and what they retrieve first, with the first seed: of "
    "each variant beside its baseline the images whose average precision it raises and lowers "
    "most, of a variant without a baseline those with the highest and the lowest. A blue frame "
    "with a dot is the right class, an orange one with a cross another class."
)
# Blue and orange differ to all kinds of colour blindness, and the marks without any colour.
RIGHT, WRONG = ("#0072B2", "o"), ("#E69F00", "X")
SIZE = 0.9  # of an image in its cell
Examples = dict[str, Any]


def draw(variants: Iterable[str], folder: Path) -> list[Path]:
    """Draw retrieval_<variant>.png where a comparison left examples; return the paths."""
    found = {variant: _read_examples(folder / variant / paths.EXAMPLES) for variant in variants}
    figures = {
        f"retrieval_{variant}.png": _figure(examples)
        for variant, examples in found.items()
        if examples
    }
    with warnings.catch_warnings():
        # Class names may be in scripts that the font lacks, such as Chinese.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        return save(figures, folder)


def _read_examples(path: Path) -> Examples | None:
    if not path.exists():
        return None
    with reading.undamaged(path, "Delete it: reports then leave out this picture."):
        examples = files.load(path)
        if not examples.keys() >= {"queries", "class_names", "of_the_first_kind", "variants"}:
            raise ValueError("parts of it are missing")
        return examples


def _figure(examples: Examples) -> Figure:
    """A row for each query: the query, then the hits of each variant."""
    variants, queries = examples["variants"], examples["queries"]
    shown = max(len(hits) for one in variants.values() for hits in one["hits"])
    width = 1.6 + len(variants) * (shown + 0.6)
    gap = 0.5  # between the two kinds of queries
    figure = Figure(figsize=(2.2 + 0.8 * width, 1.0 + 0.8 * (len(queries) + gap)))
    axes = figure.subplots()
    figure.subplots_adjust(left=2.2 / figure.get_figwidth(), right=0.99, top=0.93, bottom=0.07)
    first = examples["of_the_first_kind"]
    for row, query in enumerate(queries):
        y = row + (gap if row >= first else 0)
        _image(axes, query, 0, y)
        scores = [f"{100 * one['average_precision'][row]:.0f}" for one in variants.values()]
        label = f"{_brief(examples['class_names'][row])}\nprecision {' to '.join(scores)}%"
        axes.text(-0.7, y, label, ha="right", va="center", fontsize="small", parse_math=False)
        for place, one in enumerate(variants.values()):
            for column, (hit, right) in enumerate(
                zip(one["hits"][row], one["right"][row].tolist(), strict=True)
            ):
                _hit(axes, hit, 1.6 + place * (shown + 0.6) + column, y, right)
    for place, variant in enumerate(variants):
        x = 1.6 + place * (shown + 0.6) + (shown - 1) / 2
        axes.text(x, -0.65, variant, ha="center", va="bottom", parse_math=False)
    axes.set_xlim(-0.6, width - 1)
    axes.set_ylim(len(queries) + gap - 0.4, -0.6)
    axes.set_axis_off()
    _explain(axes)
    return figure


def _hit(axes: Axes, image: Any, x: float, y: float, right: bool) -> None:
    colour, marker = RIGHT if right else WRONG
    _image(axes, image, x, y)
    corner = (x - SIZE / 2, y - SIZE / 2)
    axes.add_collection(
        PatchCollection([Rectangle(corner, SIZE, SIZE)], facecolor="none", edgecolor=colour, lw=3)
    )
    x, y = x + 0.36 * SIZE, y + 0.36 * SIZE
    axes.plot(x, y, marker, color=colour, markersize=7, markeredgecolor="white")


def _image(axes: Axes, image: Any, x: float, y: float) -> None:
    height, width = image.shape[:2]
    half = SIZE / 2 / max(height, width)
    extent = (x - half * width, x + half * width, y + half * height, y - half * height)
    axes.imshow(image.numpy(), extent=extent, aspect="equal")


def _explain(axes: Axes) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, ls="none", label=label)
        for (colour, marker), label in ((RIGHT, "right class"), (WRONG, "another class"))
    ]
    axes.legend(
        handles=handles,
        frameon=False,
        ncols=2,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        fontsize="small",
        borderaxespad=0,
    )


def _brief(name: str) -> str:
    shown = name.encode(errors="replace").decode()  # bytes that are no text
    return shown if len(shown) <= 24 else f"{shown[:23]}…"
