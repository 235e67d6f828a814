"""What is left of a search: trials.csv, best.yaml, summary.md and trials.png."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from optuna.trial import TrialState

from benchmarks import files
from benchmarks.errors import SettingsError
from benchmarks.reporting.report import markdown
from benchmarks.reporting.summary import half_width
from benchmarks.results import reading
from benchmarks.tuning import pictures
from benchmarks.tuning.best import write_best
from benchmarks.tuning.ranges import Categorical
from benchmarks.tuning.results import Found, found, trials_table
from benchmarks.tuning.space import Dimension
from benchmarks.tuning.study import REASON, Study, values_of
from benchmarks.tuning.tune import Search, studies_of

# Of a range, so near to an end of it that better values may be beyond.
EDGE = 0.05


def report(search: Search, overrides: Sequence[str], imports: Collection[str]) -> str:
    """Write all that is left of a search into its folder; return the screen's table.

    Raises:
        SettingsError: if no trial is finished.
    """
    folder, studies = search.folder, studies_of(search)
    table = trials_table(studies)
    files.write_table(table, folder / "trials.csv")
    results, noise = found(studies)
    if not results:
        raise SettingsError(f"{folder}: no trial is finished." + _failures(table))
    best = write_best(results, search.comparison, overrides, imports)
    pictures.draw(results, noise, folder)
    overview = _overview(results)
    explained = _note(results, noise) + _left_out(table, studies, results)
    page = [
        f"# {folder.name}\n",
        markdown(overview) + "\n",
        explained + "\n",
        f"![Validation against each setting]({pictures.PICTURE})\n",
        "## What was searched\n",
        markdown(_settings(results)) + "\n",
        *(f"Made with {_versions(studies)}.\n" for _ in results[:1]),
    ]
    files.write_text("\n".join(page), folder / "summary.md")
    run = f"On test classes, with many seeds: python -m benchmarks compare {best}"
    return f"{overview.to_string(index=False)}\n\n{explained}\n\n{run}"


def _overview(results: Sequence[Found]) -> pd.DataFrame:
    rows = []
    for result in results:
        trials = result.study.trials
        repeats = [100 * value for value in result.repeats]
        width = half_width(repeats)
        pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        searched = bool(result.study.space.dimensions)
        rows.append(
            {
                "variant": result.study.variant,
                "best": _text(values_of(result.best)) or "nothing to search",
                "trial": str(result.best.number),
                "MAP@R [%]": _percent(result.best.value),
                "as given": _percent(trials[0].value) if searched else "",
                "other seeds": (f"{np.mean(repeats):.1f}" if repeats else "")
                + ("" if np.isnan(width) else f" ± {width:.1f}"),
                "trials": f"{len(trials)}"
                + (f", {pruned} pruned" if pruned else "")
                + (f", {failed} failed" if failed else ""),
                "equal within noise": f"{len(result.equal)} of {len(result.study.finished)}"
                if searched
                else "",
            }
        )
    return pd.DataFrame(rows)


def _note(results: Sequence[Found], noise: float) -> str:
    options = results[0].study.tune
    seeds = f"seed{'s' if len(options.seeds) > 1 else ''} {', '.join(map(str, options.seeds))}"
    text = (
        f"MAP@R on validation classes, at the best epoch of each run; test classes were not read. "
        f"Each trial has {seeds}: the same batches and initial weights. Of many trials the best is "
        "partly luck, so its figure is too high; *other seeds* had no part in the choice (mean ± "
        "half of the 95% Student-t interval)."
    )
    if np.isnan(noise):
        return f"{text} Without two repeats (tune.repeats) nobody knows which trials are equal."
    return (
        f"{text} Noise: {100 * noise:.1f} points. Two trials of equally good settings are at most "
        "so far apart in 95% of all pairs, by the variance of the best trials over other seeds "
        "(pooled over variants, Student's t). Finished trials as near as that to the best are "
        "equal to it within noise, itself included; of pruned trials it is not known."
    )


def _left_out(table: pd.DataFrame, studies: Sequence[Study], results: Sequence[Found]) -> str:
    there = {result.study.variant for result in results}
    lost = [study.variant for study in studies if study.variant not in there]
    text = f" No trial is finished, so best as given: {', '.join(lost)}." if lost else ""
    return text + _failures(table)


def _failures(table: pd.DataFrame) -> str:
    failed = table[table[REASON].notna()]
    lines = [f"\n- {row.variant}, trial {row.number}: {row.reason}" for row in failed.itertuples()]
    return f"\n\nTrials that failed:\n{''.join(lines)}" if lines else ""


def _settings(results: Sequence[Found]) -> pd.DataFrame:
    """A row for each setting of each variant: where it was searched, and what is as good."""
    return pd.DataFrame(
        {
            "variant": result.study.variant,
            "setting": f"`{dimension.place.name}`",
            "searched": _searched(dimension),
            "best": _brief(values_of(result.best)[dimension.name]),
            "equal within noise": _extent(result, dimension),
            "note": _edge(values_of(result.best)[dimension.name], dimension),
        }
        for result in results
        for dimension in result.study.space.dimensions
    )


def _searched(dimension: Dimension) -> str:
    searched = dimension.range
    if isinstance(searched, Categorical):
        return ", ".join(map(str, searched.choices))
    scale = ", on a log scale" if searched.log else ""
    return f"{_brief(searched.low)} to {_brief(searched.high)}{scale}"


def _extent(result: Found, dimension: Dimension) -> str:
    values = [values_of(trial)[dimension.name] for trial in result.equal]
    if isinstance(dimension.range, Categorical):
        return ", ".join(str(choice) for choice in dimension.range.choices if choice in values)
    return f"{_brief(min(values))} to {_brief(max(values))}"


def _edge(value: float, dimension: Dimension) -> str:
    searched = dimension.range
    if isinstance(searched, Categorical):
        return ""
    low, high, value = np.array([searched.low, searched.high, value], dtype=float)
    if searched.log:
        low, high, value = np.log([low, high, value])
    part = (value - low) / (high - low)
    return "" if EDGE < part < 1 - EDGE else "at an end of its range"


def _versions(studies: Sequence[Study]) -> str:
    paths = sorted(studies[0].folder.glob("*/trial_*/seed_*/versions.yaml"))
    versions = {tuple(v.items()): None for path in paths for v in reading.read_run_versions(path)}
    return "; ".join(", ".join(f"{name} {value}" for name, value in v) for v in versions)


def _text(values: object) -> str:
    return ", ".join(f"{name} {_brief(value)}" for name, value in dict(values).items())


def _brief(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
