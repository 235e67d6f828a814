"""Tables and pictures, made from the results folder alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks import files
from benchmarks.errors import SettingsError
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.reporting import pictures, plots, retrieved
from benchmarks.reporting.names import in_words, title
from benchmarks.reporting.summary import final_rows, note, over_folds, summarize
from benchmarks.results import reading
from benchmarks.settings.merging import is_object

ON_PAGES = [MAIN_METRIC, "precision_at_1", "r_precision"]
DETAILS = (
    "[summary.csv](summary.csv) has all metrics with their standard deviations, differences and "
    "times, [results.csv](results.csv) the figures of each run."
)
VIEWS = (
    "Each method beside its baseline, with the first seed and the epoch that was tested: images of "
    "the first training classes with their proxies and what is synthesised from them, projected to "
    "the principal components of each picture; and the cosines of training images to proxies."
)
Tree = dict[str, Any]


def report(folder: Path) -> str:
    """Write results.csv, summary.csv, summary.md and the pictures; return the screen's table.

    Raises:
        SettingsError: if the folder holds no finished run of a comparison.
    """
    history = reading.read_metrics(folder)
    runs = final_rows(history)
    summary = summarize(runs, reading.read_comparison(folder))
    files.write_table(runs, folder / "results.csv")
    files.write_table(summary, folder / "summary.csv")
    curves = plots.draw(history, summary, folder)
    views = pictures.draw(runs, reading.read_comparison(folder), folder)
    examples = retrieved.draw(summary["variant"], folder)
    explained = note(summary, history, reading.read_overlaps(folder)) + _failures(folder)
    page = _page(folder, summary, explained, curves, examples, views)
    files.write_text(page, folder / "summary.md")
    screen = figures(summary, [MAIN_METRIC, "precision_at_1"], with_seconds=True)
    return f"{screen.to_string(index=False)}\n\n{explained}"


def report_folds(folders: Sequence[Path]) -> str:
    """Return the screen's table of comparisons that differ in their fold, averaged seed by seed.

    Raises:
        SettingsError: if a folder holds no finished run of a comparison, or no variant and seed is
            finished in all of them.
    """
    history, summary = summary_of_folds(folders)
    screen = figures(summary, ON_PAGES, with_seconds=True)
    explained = f"{note(summary, history, overlaps_of(folders))} Each seed is a mean over folds."
    return f"{screen.to_string(index=False)}\n\n{explained}"


def summary_of_folds(folders: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the metrics of a comparison, or of all its folds, and the statistics over seeds.

    Raises:
        SettingsError: as `report_folds`.
    """
    histories = [reading.read_metrics(folder) for folder in folders]
    runs = over_folds([final_rows(history) for history in histories])
    if runs.empty:
        raise SettingsError("No variant was run with the same seed in each of the folders.")
    return pd.concat(histories), summarize(runs, reading.read_comparison(folders[0]))


def overlaps_of(folders: Sequence[Path]) -> list[str]:
    """Return what the splits of comparisons share, each once."""
    return list(dict.fromkeys(text for folder in folders for text in reading.read_overlaps(folder)))


def _page(
    folder: Path,
    summary: pd.DataFrame,
    explained: str,
    curves: list[Path],
    examples: list[Path],
    views: list[Path],
) -> str:
    versions = reading.read_versions(folder)
    made_with = [", ".join(f"{name} {value}" for name, value in v.items()) for v in versions]
    settings = reading.read_settings(folder)
    common = _common(list(settings.values()))
    differing = {name: _without(tree, common) for name, tree in settings.items()}
    return "\n".join(
        [
            f"# {in_words(folder.name)}",
            "",
            markdown(figures(summary, ON_PAGES)),
            "",
            explained,
            "",
            DETAILS,
            "",
            *_images(folder),
            *shown([path.name for path in curves]),
            *(f"Made with {line}." for line in made_with),
            "",
            *(["## What is retrieved", "", retrieved.CAPTION, ""] if examples else []),
            *(f"![{in_words(path.stem)}]({path.name})\n" for path in examples),
            *(["## Training embeddings and their proxies", "", VIEWS, ""] if views else []),
            *(f"![{in_words(path.stem)}]({path.name})\n" for path in views),
            "## Settings of all variants",
            "",
            f"```yaml\n{yaml.safe_dump(common)}```",
            "",
            "## Settings of each variant",
            "",
            f"```yaml\n{yaml.safe_dump(differing, sort_keys=False, allow_unicode=True)}```",
            "",
        ]
    )


def _images(folder: Path) -> list[str]:
    counts = reading.read_counts(folder)
    texts = [f"{name} {n['images']:,} of {n['classes']:,} classes" for name, n in counts.items()]
    return [f"Images: {', '.join(texts)}.", ""] if texts else []


def _failures(folder: Path) -> str:
    failures = reading.read_failures(folder)
    lines = [f"\n- {run}: {reason}" for run, reason in failures.items()]
    if not lines:
        return ""
    return (
        f"\n\nRuns that failed, so not in the table:\n{''.join(lines)}\n\n"
        "The command that made them runs them again, once the cause is mended. Where that changes "
        "their settings, delete the folders of these variants first."
    )


def figures(summary: pd.DataFrame, metrics: list[str], with_seconds: bool = False) -> pd.DataFrame:
    """Return the table of a summary: variant, verdict and difference first, then the metrics.

    Arguments:
        summary: see `summarize`.
        metrics: the metrics to show, of which a summary may lack some.
        with_seconds: whether the last column is the mean time of a run.
    """
    table = pd.DataFrame({"variant": summary["variant"]})
    if f"{MAIN_METRIC}_difference" in summary:
        table["against its baseline"] = summary["verdict"]
        differences = summary[f"{MAIN_METRIC}_difference"]
        intervals = summary[f"{MAIN_METRIC}_difference_interval"]
        cells = with_intervals(differences, intervals, sign="+")
        table[f"{title(MAIN_METRIC)} difference"] = cells
    for metric in metrics:
        if metric in summary:
            cells = with_intervals(summary[metric], summary[f"{metric}_interval"])
            table[f"{title(metric)} [%]"] = cells
    table["seeds"] = summary["seeds"]
    if with_seconds:
        table["seconds"] = summary["seconds"].round(1)
    return table


def shown(pictures_drawn: list[str]) -> list[str]:
    """Return the lines of a page that show pictures of `plots`, each below what it shows."""
    return [
        line
        for name in pictures_drawn
        for line in (plots.CAPTIONS[name], "", f"![{plots.CAPTIONS[name]}]({name})", "")
    ]


def with_intervals(means: pd.Series, intervals: pd.Series, sign: str = "") -> list[str]:
    """Write "mean ± interval", or as much of it as there is."""
    return [
        "" if np.isnan(mean) else f"{mean:{sign}.1f}" + _after(interval)
        for mean, interval in zip(means, intervals, strict=True)
    ]


def _after(interval: float) -> str:
    return "" if np.isnan(interval) else f" ± {interval:.1f}"


def markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown, texts as they are."""
    return table.to_markdown(index=False, tablefmt="github", disable_numparse=True)


def _common(trees: list[Tree]) -> Tree:
    """What all trees say alike."""
    first, *others = trees
    common = {}
    for key, value in first.items():
        values = [tree.get(key) for tree in others]
        if all(other == value for other in values):
            common[key] = value
        elif all(_is_section(other) for other in [value, *values]):
            common[key] = _common([value, *values])
    return {key: value for key, value in common.items() if value != {}}


def _without(tree: Tree, common: Tree) -> Tree:
    """What a tree says beside the common part of it."""
    rest = {}
    for key, value in tree.items():
        if _is_section(value) and _is_section(common.get(key)):
            value = _without(value, common[key])
        if value != common.get(key) and value != {}:
            rest[key] = value
    return rest


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) and not is_object(value)
