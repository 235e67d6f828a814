"""The report on what the methods gain: its cells, its tables and its picture.

python -m docs.extensions.gains
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.files import atomic_write
from benchmarks.reporting.names import title
from benchmarks.reporting.significance import LEVEL, holm, visible_difference
from benchmarks.reporting.summary import summarize
from docs.extensions.markdown_table import table
from pml_synthesis.visualize import COLOURS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PICTURE = ROOT / "docs" / "pictures" / "gains.png"

SETS = {
    "glyphs": "Glyphs",
    "grocery": "GroceryStore",
    "omniglot_full": "Omniglot",
    "emoji": "Emoji",
    "fonts": "FontGlyphs",
}
LOSSES = {
    "norm_softmax": "norm-softmax",
    "proxy_anchor": "Proxy-Anchor",
    "multi_similarity": "MultiSimilarity",
    "contrastive": "Contrastive",
}
METHODS = {
    "ps": "Proxy Synthesis",
    "see": "SEE",
    "memvir": "MemVir",
    "mixup": "Embedding Mixup",
    "ee": "Embedding Expansion",
    "symmetrical": "Symmetrical Synthesis",
    "iaa": "Intra-class adaptive",
    "das": "DAS",
}
SHORT = {"symmetrical": "Symmetrical", "symmetrical_das": "Symmetrical, DAS"}
FITTING = {
    "norm_softmax": ("ps", "see", "memvir", "mixup"),
    "proxy_anchor": ("ps", "see", "memvir", "mixup"),
    "multi_similarity": ("ee", "symmetrical", "iaa", "das"),
    "contrastive": ("ee", "symmetrical", "iaa", "das", "mixup"),
}
SEARCHED = {
    "contrastive": ["loss.pos_margin", "loss.neg_margin"],
    "multi_similarity": ["MultiSimilarityLoss.alpha", "MultiSimilarityLoss.beta"],
}
PLAIN = LOSSES | {"contrastive_miner": "Contrastive, miner"}
TOGETHER = "multi_similarity+symmetrical_das"
WITH_SYMMETRICAL = [
    *(f"{loss}+symmetrical" for loss in (*SEARCHED, "contrastive_miner")),
    TOGETHER,
]
# Each column of the table of the combination: what it is compared with.
APART = {
    "over MultiSimilarity": "multi_similarity",
    "over Symmetrical": "multi_similarity+symmetrical",
    "over DAS": "multi_similarity+das",
}
_METHOD, _MINER = "contrastive+symmetrical", "contrastive_miner"
_BOTH = f"{_MINER}+symmetrical"
# Studies of more seeds, see benchmarks/configs/studies, and their sets.
MORE_SEEDS = {
    "seeds_glyphs_multi_similarity": "glyphs",
    "seeds_grocery_multi_similarity": "grocery",
    "seeds_grocery_contrastive": "grocery",
    "seeds_omniglot_full_contrastive": "omniglot_full",
    "seeds_fonts_contrastive": "fonts",
    "seeds_fonts_combination": "fonts",
}
FIRST_SEEDS = 10  # those of the main comparison, which chose what has more
# Each column of the table of a miner: a variant, and what it is compared with.
MINED = {
    "+ Symmetrical": (_METHOD, "contrastive"),
    "+ miner": (_MINER, "contrastive"),
    "+ both": (_BOTH, "contrastive"),
    "Symmetrical over miner": (_METHOD, _MINER),
    "both over miner": (_BOTH, _MINER),
}
AIM = 0.5  # points of MAP@R, which are worth a method
WIDEST = 4.0  # points on either side of the picture; what lies beyond is an arrow


def study_of(name: str) -> str:
    """Return the folder of the ten seeds on a set."""
    return f"methods_{name}_tuned"


def published() -> dict[str, str]:
    """Return the sets that have results, by their titles."""
    return {key: name for key, name in SETS.items() if (RESULTS / study_of(key)).exists()}


@cache
def cells() -> pd.DataFrame:
    """Return the statistics of each variant on each set, see `summarize`.

    The corrected p-values are for the comparisons of all sets together.
    """
    return corrected({name: study_of(name) for name in published()})


def corrected(studies: dict[str, str]) -> pd.DataFrame:
    """Return the statistics of each variant of some studies, corrected for all of them together.

    Arguments:
        studies: their folders, by names that become the level "set".
    """
    runs = {key: pd.read_csv(RESULTS / name / "results.csv") for key, name in studies.items()}
    return _corrected(runs)


def _corrected(runs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    of_sets = {key: _summary(of_set) for key, of_set in runs.items()}
    together = pd.concat(of_sets, names=["set"]).swaplevel()
    return together.assign(p_value_holm=holm(together["p_value"]))


def _summary(runs: pd.DataFrame) -> pd.DataFrame:
    losses = {variant: variant.partition("+")[0] for variant in runs["variant"]}
    baselines = {variant: loss if loss != variant else None for variant, loss in losses.items()}
    return summarize(runs, baselines).set_index("variant")


def remains(row: pd.Series) -> bool:
    """Say whether a difference is seen after Holm's correction."""
    return bool(row["p_value_holm"] <= 1 - LEVEL)


def gain(row: pd.Series, metric: str = MAIN_METRIC) -> str:
    """Write a difference: in bold where it is seen, with a star where MAP@R remains corrected."""
    difference, width = row[f"{metric}_difference"], row[f"{metric}_difference_interval"]
    text = f"{difference:+.1f} ± {width:.1f}"
    if abs(difference) <= width:
        return text
    return f"**{text}**{' *' if metric == MAIN_METRIC and remains(row) else ''}"


def value(row: pd.Series, metric: str = MAIN_METRIC) -> str:
    """Write a mean and its interval."""
    return f"{row[metric]:.1f} ± {row[f'{metric}_interval']:.1f}"


# ---------------------------------------------------------------------------------- tables


def matrix(metric: str = MAIN_METRIC) -> str:
    """Return the table of all gains: a line for each method with a loss, a column for each set."""
    rows = []
    for loss, methods in FITTING.items():
        rows.append([f"**{LOSSES[loss]}**, tuned", *_cells_of(loss, metric)])
        for method in methods:
            rows.append([f"+ {METHODS[method]}", *_cells_of(f"{loss}+{method}", metric)])
    links = (f"[{name}](results/{study_of(key)}/summary.md)" for key, name in published().items())
    return table([title(metric), *links], rows)


def _cells_of(variant: str, metric: str) -> list[str]:
    return [_cell(variant, name, metric) for name in published()]


def _cell(variant: str, name: str, metric: str) -> str:
    if (variant, name) not in cells().index:
        return "left out"
    row = cells().loc[(variant, name)]
    return gain(row, metric) if "+" in variant else value(row, metric)


def best() -> str:
    """Return the table of Symmetrical Synthesis against the best plain loss of each set.

    Both are the best on validation classes.
    """
    runs = {name: _runs(name) for name in published()}
    leaders = {name: _leader(name, runs[name], PLAIN) for name in runs}
    differences = _compared(
        runs,
        [
            (name, variant, leaders[name])
            for name in runs
            for variant in WITH_SYMMETRICAL
            if variant in set(runs[name]["variant"])
        ],
    )
    rows = []
    for name, leader in leaders.items():
        plain = _difference(runs[name], WITH_SYMMETRICAL[0], leader).loc[leader]
        chosen = _leader(name, runs[name], WITH_SYMMETRICAL)
        cells = [
            f"{gain(differences.loc[(name, variant, leader)])}"
            f"{', chosen' if variant == chosen else ''}"
            if (name, variant, leader) in differences.index
            else "not run"
            for variant in WITH_SYMMETRICAL
        ]
        rows.append([published()[name], f"{PLAIN[leader]}, {value(plain)}", *cells])
    parts = (variant.split("+") for variant in WITH_SYMMETRICAL)
    head = (f"{PLAIN[loss]} + {SHORT[method]}" for loss, method in parts)
    return table([title(MAIN_METRIC), "best plain loss", *head], rows)


def together() -> str:
    """Return the table of Symmetrical Synthesis together with DAS: over none and over each."""
    of_sets = {name: _runs(name) for name in published()}
    runs = {name: of for name, of in of_sets.items() if TOGETHER in set(of["variant"])}
    comparisons = [(name, TOGETHER, baseline) for name in runs for baseline in APART.values()]
    found = _compared(runs, comparisons)
    rows = [
        [
            f"[{published()[name]}](results/combinations_{name}_tuned/summary.md)",
            value(found.loc[(name, TOGETHER, "multi_similarity")]),
            *(gain(found.loc[(name, TOGETHER, alone)]) for alone in APART.values()),
        ]
        for name in runs
    ]
    return table([title(MAIN_METRIC), "with both", *APART], rows)


def _runs(name: str) -> pd.DataFrame:
    """Return the runs on a set, those with a miner and of combinations among them."""
    studies = (study_of(name), f"miner_{name}_tuned", f"combinations_{name}_tuned")
    paths = (RESULTS / study / "results.csv" for study in studies)
    runs = pd.concat([pd.read_csv(path) for path in paths if path.exists()])
    several = runs.groupby(["variant", "seed"])[MAIN_METRIC].nunique() > 1
    if several.any():
        raise ValueError(f"{name}: the studies disagree on {list(several[several].index)}.")
    return runs.drop_duplicates(["variant", "seed"])


def _leader(name: str, runs: pd.DataFrame, variants: Iterable[str]) -> str:
    """Return which of the variants that were run has the best trial on validation classes."""
    kinds = ("methods_{}_plain", "methods_{}", "miner_{}", "combinations_{}")
    studies = (kind.format(name) for kind in kinds)
    paths = (RESULTS / study / "trials.csv" for study in studies)
    trials = pd.concat([pd.read_csv(path) for path in paths if path.exists()])
    known = set(variants) & set(runs["variant"])
    finished = trials[trials["state"].eq("finished") & trials["variant"].isin(known)]
    return str(finished.groupby("variant")[MAIN_METRIC].max().idxmax())


def trials() -> str:
    """Return the table of how often a trial with Symmetrical Synthesis was the better one."""
    rows = [[name, *(_won(loss, key) for loss in SEARCHED)] for key, name in published().items()]
    losses = (LOSSES[loss] for loss in SEARCHED)
    return table(["ahead with equal settings of the loss", *losses], rows)


def _won(loss: str, name: str) -> str:
    """Count the trials that beat the plain loss with equal settings of the loss."""
    searched, trials = SEARCHED[loss], pd.read_csv(RESULTS / f"methods_{name}" / "trials.csv")
    finished = trials[trials["state"].eq("finished")].drop_duplicates(["variant", *searched])
    names = (loss, f"{loss}+symmetrical")
    plain, method = (finished[finished["variant"].eq(variant)] for variant in names)
    pairs = plain.merge(method, on=searched, suffixes=("", "_method"))
    ahead = pairs[f"{MAIN_METRIC}_method"] > pairs[MAIN_METRIC]
    return f"{ahead.sum()} of {len(pairs)}"


def miner() -> str:
    """Return the table of Contrastive with Symmetrical Synthesis, with a miner and with both."""
    studies = {key: f"miner_{key}_tuned" for key in published()}
    mined = {key: study for key, study in studies.items() if (RESULTS / study).exists()}
    runs = {key: pd.read_csv(RESULTS / study / "results.csv") for key, study in mined.items()}
    compared = _compared(runs, [(key, *pair) for key in runs for pair in MINED.values()])
    plain = {key: _difference(runs[key], *MINED["+ miner"]).loc["contrastive"] for key in runs}
    rows = [
        [
            f"[{published()[key]}](results/{mined[key]}/summary.md)",
            value(plain[key]),
            *(gain(compared.loc[(key, *pair)]) for pair in MINED.values()),
        ]
        for key in runs
    ]
    return table([title(MAIN_METRIC), LOSSES["contrastive"], *MINED], rows)


def more_seeds() -> str:
    """Return the table of the gains that were run with more seeds: the first, the later and all.

    The later seeds had no part in the choice of what is in the table: they alone are corrected.
    """
    studies = [study for study in MORE_SEEDS if (RESULTS / study).exists()]
    runs = {study: pd.read_csv(RESULTS / study / "results.csv") for study in studies}
    later = _corrected({study: of[of["seed"] > FIRST_SEEDS] for study, of in runs.items()})
    first = {study: of[of["seed"] <= FIRST_SEEDS] for study, of in runs.items()}
    chosen, together = (_corrected(some).assign(p_value_holm=1.0) for some in (first, runs))
    rows = []
    for variant, study in together.query("verdict != ''").index:
        key, (loss, _, method) = MORE_SEEDS[study], variant.partition("+")
        every = together.loc[(variant, study)]
        rows.append(
            [
                f"[{SETS[key]}](results/{study}/summary.md)",
                f"{LOSSES[loss]} + {METHODS.get(method) or SHORT[method]}",
                gain(chosen.loc[(variant, study)]),
                gain(later.loc[(variant, study)]),
                gain(every),
                gain(every, "precision_at_1"),
                f"{every['pairs']:.0f}",
                f"{every['visible_difference']:.2f}",
            ]
        )
    head = ["", "", "first ten seeds", "later seeds", "all seeds", "all, in P@1", "seeds"]
    return table([*head, "visible with all"], rows)


def _compared(
    runs: dict[str, pd.DataFrame], comparisons: Iterable[tuple[str, str, str]]
) -> pd.DataFrame:
    """Return the statistics of comparisons, corrected for all of them together.

    Arguments:
        runs: those of each set.
        comparisons: each a set, a variant and what it is compared with; the index of the result.
    """
    found = {(key, *pair): _difference(runs[key], *pair).loc[pair[0]] for key, *pair in comparisons}
    differences = pd.concat(found, axis=1).T
    return differences.assign(p_value_holm=holm(differences["p_value"].astype(float)))


def _difference(runs: pd.DataFrame, variant: str, baseline: str) -> pd.DataFrame:
    """Return the statistics of two variants of which one is the baseline of the other."""
    pair = runs[runs["variant"].isin([variant, baseline])]
    return summarize(pair, {baseline: None, variant: baseline}).set_index("variant")


def power() -> str:
    """Return the table of what could have been seen on each set, and with how many seeds."""
    rows = []
    for key, name in published().items():
        compared = cells().xs(key, level="set").query("verdict != ''")
        visible = compared["visible_difference"]
        spreads = visible / compared["pairs"].map(partial(visible_difference, 1.0))
        needed = spreads.map(seeds_needed)
        rows.append(
            [
                name,
                str(len(compared)),
                f"{visible.min():.1f}, {visible.median():.1f}, {visible.max():.1f}",
                str(int(visible.le(AIM).sum())),
                f"{needed.min()}, {needed.median():.0f}, {needed.max()}",
            ]
        )
    head = ["", "comparisons", "visible difference: least, median, most"]
    return table([*head, f"{AIM} is visible in", f"seeds for {AIM}: least, median, most"], rows)


def cost() -> str:
    """Return the table of times: of a run with a method over that of its plain loss."""
    rows = [
        [f"{LOSSES[loss]} + {METHODS[method]}", *(_ratio(loss, method, n) for n in published())]
        for loss, methods in FITTING.items()
        for method in methods
    ]
    return table(["time of a run", *published().values()], rows)


def _ratio(loss: str, method: str, name: str) -> str:
    seconds = cells()["seconds"].xs(name, level="set")
    known = f"{loss}+{method}" in seconds.index
    return f"{seconds[f'{loss}+{method}'] / seconds[loss]:.2f}" if known else "left out"


def seeds_needed(spread: float) -> int:
    """Return the fewest seeds with which a difference of `AIM` is visible.

    Example:
        >>> seeds_needed(0.5)
        10
    """
    return next(n for n in range(2, 10_000) if visible_difference(spread, n) <= AIM)


# --------------------------------------------------------------------------------- picture


def draw() -> Figure:
    """Draw all gains: a panel for each set, a line for each method with a loss."""
    names, places = published(), _places()
    figure = Figure(figsize=(3.2 + 2 * len(names), 6.4), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, (key, name) in zip(panels, names.items(), strict=True):
        for (loss, method), place in places.items():
            if (f"{loss}+{method}", key) in cells().index:
                point(panel, cells().loc[(f"{loss}+{method}", key)], place, WIDEST)
        panel.axvline(0, color="black", lw=0.8)
        panel.set_title(name, fontsize="medium")
        panel.set_xlim(-WIDEST - 0.3, WIDEST + 0.3)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(
        list(places.values()), [f"{LOSSES[loss]} + {METHODS[m]}" for loss, m in places]
    )
    panels[0].set_ylim(max(places.values()) + 0.7, -0.7)
    figure.supxlabel("MAP@R minus that of the tuned plain loss [points]", fontsize="medium")
    return figure


def _places() -> dict[tuple[str, str], float]:
    """Return the height of each line, with a gap between losses."""
    places, height = {}, 0.0
    for loss, methods in FITTING.items():
        for method in methods:
            places[loss, method] = height
            height += 1
        height += 0.6
    return places


def point(panel: Axes, row: pd.Series, place: float, widest: float) -> None:
    """Draw a difference with its interval, filled where it is seen after correction.

    What lies beyond the widest difference is an arrow.
    """
    mean = row[f"{MAIN_METRIC}_difference"]
    seen = row["verdict"] in ("better", "worse")
    colour = (COLOURS[0] if mean > 0 else COLOURS[1]) if seen else "#666666"
    if abs(mean) > widest:
        edge = np.copysign(widest, mean)
        panel.plot(edge, place, marker=">" if mean > 0 else "<", color=colour)
        panel.annotate(
            f"{mean:+.1f}",
            (edge, place),
            (6 if mean < 0 else -6, 0),
            textcoords="offset points",
            ha="left" if mean < 0 else "right",
            va="center",
            fontsize="x-small",
        )
        return
    width = row[f"{MAIN_METRIC}_difference_interval"]
    face = colour if remains(row) else "white"
    panel.errorbar(
        mean, place, xerr=width, fmt="o", color=colour, markerfacecolor=face, markersize=5, lw=1.2
    )


TABLES = {
    "gains": matrix,
    "gains_p1": partial(matrix, "precision_at_1"),
    "gains_best": best,
    "gains_trials": trials,
    "gains_miner": miner,
    "gains_seeds": more_seeds,
    "gains_together": together,
    "power": power,
    "cost": cost,
}

if __name__ == "__main__":
    with atomic_write(PICTURE) as unfinished:
        draw().savefig(unfinished, format="png", dpi=120)
