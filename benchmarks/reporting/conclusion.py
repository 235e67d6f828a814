"""What a comparison found, in plain words, and what to do next."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.reporting.summary import FEW_PAIRS, final_rows, summarize
from benchmarks.results import paths, reading


def conclusion(folder: Path, config: str, given: Sequence[str] = ()) -> str:
    """Say which variants differ from their baselines, which is best, and where its weights are.

    Arguments:
        folder: of a comparison with finished runs.
        config: its settings file, for the command that is proposed.
        given: what the command line said beside it, which the proposed command repeats.
    """
    runs = final_rows(reading.read_metrics(folder))
    summary = summarize(runs, reading.read_comparison(folder))
    ranked = summary.dropna(subset=[MAIN_METRIC]).sort_values(MAIN_METRIC, kind="stable")
    if ranked.empty:
        return "No run has figures: see above why."
    best = str(ranked["variant"].iloc[-1])
    of_best = runs[runs["variant"].eq(best)].dropna(subset=[MAIN_METRIC])
    highest = f"The highest mean MAP@R is that of {best}, {ranked[MAIN_METRIC].iloc[-1]:.1f}%."
    return " ".join(
        [_found(summary), highest, *_next(summary, best, of_best, folder, config, given)]
    )


def _found(summary: pd.DataFrame) -> str:
    told = []
    compared = summary[summary["verdict"].ne("")]
    for row in compared[compared["verdict"].isin(["better", "worse"])].to_dict("records"):
        difference = abs(row[f"{MAIN_METRIC}_difference"])
        told.append(
            f"{row['variant']} is {row['verdict']} than {row['baseline']} by {difference:.1f} ± "
            f"{row[f'{MAIN_METRIC}_difference_interval']:.1f} points."
        )
    same = compared[compared["verdict"].eq("no difference seen")]["variant"]
    if len(same):
        told.append(f"No difference from the baseline was seen for {', '.join(same)}.")
    if told:
        return " ".join(told)
    if summary["baseline"].isna().all():
        return "No variant has a baseline to be compared with."
    return "Nothing can be told apart yet: that takes two seeds of a variant and its baseline."


def _next(
    summary: pd.DataFrame,
    best: str,
    of_best: pd.DataFrame,
    folder: Path,
    config: str,
    given: Sequence[str],
) -> list[str]:
    epoch = round(of_best["epoch"].mean())
    if not epoch:
        return ["That is without training: train longer, or look for what is wrong."]
    told = []
    if summary["pairs"].between(1, FEW_PAIRS - 1).any():
        told.append("Next: more seeds, before you believe small differences.")
    first = f"{folder / best}/seed_{of_best['seed'].min()}"
    # There is none of a comparison without test classes.
    if (folder / best / paths.EXAMPLES).exists():
        told.append(f"What it retrieves is in retrieval_{best}.png.")
    told.append(
        f"Its weights are in {first}/best.pt (load_model({first!r})). Once it is chosen, train it "
        f"on all classes: {_train(config, best, epoch, given)}"
    )
    return told


def _train(config: str, variant: str, epochs: int, given: Sequence[str]) -> str:
    replaced = ("epochs=", f"variants.{variant}.epochs=")
    repeated = [word for word in given if not word.startswith(replaced)]
    options = ["--variant", variant, "--epochs", str(epochs)]
    return shlex.join(["python", "-m", "benchmarks", "train", config, *options, *repeated])
