"""What two methods gain in other regimes than that of the report: tables and a picture.

python -m docs.extensions.regimes
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.files import atomic_write
from benchmarks.reporting.names import title
from docs.extensions import gains
from docs.extensions.markdown_table import table

PICTURE = gains.PICTURE.with_name("regimes.png")
METHODS = {"norm_softmax": "ps", "contrastive": "symmetrical"}
TRAINING = {
    "regimes_1000_classes_tuned": "FontGlyphs: 1,000 classes, 600 steps",
    "regimes_50_classes_tuned": "50 classes",
    "regimes_5000_classes_tuned": "5,000 classes",
    "regimes_150_steps_tuned": "150 steps",
    "regimes_4800_steps_tuned": "4,800 steps",
    "regimes_wide_tuned": "twice as wide",
    "regimes_512_dimensions_tuned": "512 dimensions",
    "regimes_not_augmented_tuned": "no augmentation",
    "regimes_20_images_tuned": "Omniglot: 20 images of a class",
    "regimes_2_images_tuned": "2 images of a class",
}
ROBUSTNESS = {
    "methods_glyphs_tuned": "Glyphs: unseen letters",
    "noise_10_glyphs": "10% wrong labels",
    "noise_30_glyphs": "30% wrong labels",
    "unseen_tuned_glyphs": "unseen letters in three new fonts",
    "seen_tuned_glyphs": "seen letters in three new fonts",
    "methods_fonts_tuned": "FontGlyphs: unseen characters",
    "new_fonts_fonts": "in three new fonts",
    "methods_emoji_tuned": "Emoji: unseen emoji",
    "new_vendors_emoji": "of two new vendors",
}
OF_REPORT = {key: gains.study_of(key) for key in gains.SETS}
WIDEST = 10.0  # points on either side of the picture


def published(studies: dict[str, str]) -> dict[str, str]:
    """Return the studies that have results, by their titles."""
    return {study: name for study, name in studies.items() if (gains.RESULTS / study).exists()}


def cells(studies: dict[str, str]) -> pd.DataFrame:
    """Return the statistics of each variant of the studies.

    Those of the report keep its correction; the others are corrected together.
    """
    own = {study: study for study in published(studies) if study not in OF_REPORT.values()}
    of_report = gains.cells().rename(index=OF_REPORT, level="set")
    return pd.concat([of_report, gains.corrected(own)]) if own else of_report


def regimes(studies: dict[str, str]) -> str:
    """Return a table: a line for each study, and two columns for each loss."""
    found = cells(studies)
    rows = []
    for study, name in published(studies).items():
        line = [f"[{name}](results/{study}/summary.md)"]
        for loss in METHODS:
            if (loss, study) not in found.index:
                line += ["not run", ""]
                continue
            method = found.loc[(f"{loss}+{METHODS[loss]}", study)]
            line += [gains.value(found.loc[(loss, study)]), gains.gain(method)]
        rows.append(line)
    names = {gains.LOSSES[loss]: gains.METHODS[method] for loss, method in METHODS.items()}
    head = (text for loss, name in names.items() for text in (loss, f"{name} adds"))
    return table([title(MAIN_METRIC), *head], rows)


def draw() -> Figure:
    """Draw the gains in all regimes of training: a panel for each loss, a line for each regime."""
    found, names = cells(TRAINING), published(TRAINING)
    figure = Figure(figsize=(8.6, 0.9 + 0.34 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(METHODS), sharey=True)
    for panel, (loss, method) in zip(panels, METHODS.items(), strict=True):
        for place, study in enumerate(names):
            gains.point(panel, found.loc[(f"{loss}+{method}", study)], place, WIDEST)
        panel.axvline(0, color="black", lw=0.8)
        panel.set_title(f"{gains.LOSSES[loss]} + {gains.METHODS[method]}", fontsize="medium")
        panel.grid(axis="x", alpha=0.3)
        panel.set_yticks(range(len(names)), names.values())
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_xlim(-WIDEST - 0.5, WIDEST + 0.5)
    figure.supxlabel("MAP@R minus that of the plain loss [points]", fontsize="medium")
    return figure


TABLES = {
    "gains_regimes": partial(regimes, TRAINING),
    "gains_robustness": partial(regimes, ROBUSTNESS),
}

if __name__ == "__main__":
    with atomic_write(PICTURE) as unfinished:
        draw().savefig(unfinished, format="png", dpi=120)
