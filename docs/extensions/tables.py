"""Writes the tables of the pages: from the results in docs/results, and of the augmenters.

python -m docs.extensions.tables
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pandas as pd

from docs.extensions import augmenters, gains, regimes, untuned_scales
from docs.extensions.markdown_table import table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "augmenters").glob("*.md")),
]
DIFFERENCE = re.compile(r"-?\d+\.\d ± \d+\.\d")
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

MAP = "mean_average_precision_at_r"
DATA = {
    "omniglot_augmented": "Omniglot, augmented",
    "omniglot": "Omniglot, as it is",
    "glyphs": "Glyphs",
}
LOSSES = {"norm_softmax": "norm-softmax", "proxy_nca": "Proxy-NCA", "proxy_anchor": "Proxy-Anchor"}
METHODS = {"ps": "PS", "see": "SEE", "see_grad": "SEE with gradient"}
SCALES = {"norm_softmax": ("2.5", "5", "10", "20"), "proxy_anchor": ("5", "8", "16", "32")}
CLASSES, SIZES = (50, 200, 233), (16, 64, 256)


def fill(text: str) -> str:
    """Return a page with its tables made anew."""
    return TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


@cache
def figures() -> frozenset[str]:
    """Return every "mean ± interval" and mean of the results, as the pages write them."""
    written = set()
    for path in RESULTS.glob("*/summary.csv"):
        for _, row in summary(path.parent.name).iterrows():
            means = {value(row), value(row, "precision_at_1")}
            written |= means | {mean.split()[0] for mean in means} | {gain(row).strip("*+")}
    for group in OF_GAINS:
        for make in group.values():
            written |= set(DIFFERENCE.findall(make()))
    return frozenset(written)


@cache
def summary(study: str) -> pd.DataFrame:
    """Return the statistics of a study, by variant, in percent."""
    return pd.read_csv(RESULTS / study / "summary.csv").set_index("variant")


def value(row: pd.Series, metric: str = MAP) -> str:
    """Write the mean and the interval of a variant; a variant that is not trained has none."""
    mean, interval = row[metric], row[f"{metric}_interval"]
    return f"{mean:.1f}" if not interval > 1e-9 else f"{mean:.1f} ± {interval:.1f}"


def gain(row: pd.Series) -> str:
    """Write the difference from the baseline, in bold where it is called better or worse."""
    if not row.get("pairs"):
        return ""
    text = f"{row[f'{MAP}_difference']:+.1f} ± {row[f'{MAP}_difference_interval']:.1f}"
    return f"**{text}**" if row["verdict"] in ("better", "worse") else text


def _linked(study: str, text: str) -> str:
    """Link the last word of a text to the page of a study."""
    *first, last = text.split(", ")
    return ", ".join([*first, f"[{last}](results/{study}/summary.md)"])


# --------------------------------------------------------------------- settings of the papers


def _paper() -> str:
    head = ["", *(_linked(f"{data}_paper", name) for data, name in DATA.items())]
    rows = [
        [
            f"{loss} + {method}",
            *(gain(summary(f"{data}_paper").loc[f"{key}+{by}"]) for data in DATA),
        ]
        for key, loss in LOSSES.items()
        for by, method in METHODS.items()
    ]
    return table(head, rows)


def _advice() -> str:
    advice = {
        "Proxy-NCA, or a softmax loss at a high scale | a lower scale, then Proxy Synthesis": [
            "proxy_nca+ps"
        ],
        "norm-softmax at a low scale | Proxy Synthesis; expect little": ["norm_softmax+ps"],
        "Proxy-Anchor | SEE; expect little": ["proxy_anchor+see"],
        "Proxy-Anchor | not Proxy Synthesis": ["proxy_anchor+ps"],
        "Proxy-NCA, norm-softmax | not SEE at the released weight": [
            "proxy_nca+see",
            "norm_softmax+see",
        ],
        "CosFace, ArcFace, SoftTriple, SphereFace, P2SGrad, ... | measure it": [],
        "pair losses | an augmenter that [works with them](losses.md), and measure it: they keep "
        "no proxies for PS and SEE": [],
    }
    rows = [
        [
            *what.split(" | "),
            *(
                ", ".join(gain(summary(f"{data}_paper").loc[name]) for name in names) or "not run"
                for data in DATA
            ),
        ]
        for what, names in advice.items()
    ]
    return table(["your loss", "try", *DATA.values()], rows)


FIRST_LOOK = {"glyphs_first_look": "Glyphs", "omniglot_augmented_first_look": "Omniglot"}


def _first_look() -> str:
    names = {
        "norm_softmax": "norm-softmax",
        "ps": "Proxy Synthesis, joined",
        "see": "SEE, as a term",
        "memvir": "MemVir, joined (5 steps, 10 between them)",
        "mixup": "Embedding Mixup, as a term",
        "multi_similarity": "MultiSimilarity",
        "ee": "Embedding Expansion, mined by hardened distances",
        "symmetrical": 'Symmetrical Synthesis, "negative"',
        "iaa": "Intra-class adaptive augmentation, candidates",
        "das": "DAS, mined together",
        "contrastive": "Contrastive",
    }
    studies = [summary(study) for study in FIRST_LOOK]
    rows = []
    for variant in studies[0].index:
        baseline, _, method = variant.partition("+")
        adds = f"+ {names[method]}" if method else f"**{names[baseline]}**"
        of_sets = [study.loc[variant] for study in studies]
        rows.append([adds, *(text for row in of_sets for text in (value(row), gain(row)))])
    head = [text for name in FIRST_LOOK.values() for text in (f"MAP@R, {name}", "gain")]
    return table(["", *head], rows)


def _which_one() -> str:
    """What the authors of each method report, and the first look at it."""
    published = {
        "ps": "Proxy Synthesis | norm-softmax, BN-Inception 512 | 64.9 to 66.0 | 83.3 to 84.7 "
        "| 78.6 to 79.6 | a proxy loss",
        "memvir": "MemVir | norm-softmax, BN-Inception 512 | 64.9 to 67.3 | 83.3 to 86.8 "
        "| 78.6 to 79.6 | a proxy loss, memory, about 15 times the epochs",
        "see": "SEE | its own hyperbolic baseline, ResNet-50 512 | 65.5 to 69.3 | 81.9 to 88.5 "
        "| 79.9 to 80.3 | a proxy loss",
        "mixup": "Embedding Mixup (Metrix) | Contrastive, ResNet-50 512 | 64.7 to 66.4 "
        "| 81.6 to 83.9 | 74.9 to 76.7 | a loss that can weigh",
        "ee": "Embedding Expansion | MultiSimilarity, BN-Inception 512 | 64.5 to 65.1 "
        "| 82.1 to 82.9 | 76.3 to 77.0 | a pair loss, two images of a class",
        "symmetrical": 'Symmetrical Synthesis, "negative" | MultiSimilarity, BN-Inception 512 '
        "| 64.5 to 64.9 | 82.1 to 82.4 | 76.3 to 76.9 | a pair loss, two images of a class",
        "iaa": "Intra-class adaptive augmentation | MultiSimilarity, GoogLeNet 512 "
        "| 56.2 to 62.1 | 77.0 to 84.2 | 75.9 to 78.6 "
        "| a pass over the training set every few epochs",
        "das": "DAS | MultiSimilarity, BN-Inception 512 | 65.7 to 67.1 | 83.9 to 85.7 "
        "| 76.9 to 78.2 | memory, two images of a class",
    }
    studies = [summary(study) for study in FIRST_LOOK]
    rows = []
    for key, line in published.items():
        name, trained, *gains, needs = line.split(" | ")
        # Mixup was measured with two losses: the first of them is its authors'.
        variant = "contrastive+mixup" if key == "mixup" else None
        found = [
            gain(study.loc[variant or next(v for v in study.index if v.endswith(f"+{key}"))])
            for study in studies
        ]
        rows.append([name, trained, *gains, *found, needs])
    measured = [f"our MAP@R, {name}" for name in FIRST_LOOK.values()]
    return table(["method", "loss, network", "CUB", "Cars", "SOP", *measured, "needs"], rows)


# ------------------------------------------------------------------------ plain losses alone

SETS = {
    "omniglot_full": "Omniglot, whole",
    "emoji": "Emoji",
    "fonts": "FontGlyphs",
    "grocery": "GroceryStore",
}


def _baselines() -> str:
    names = {
        "raw_pixels": "raw pixels",
        "untrained_trunk": "untrained network",
        "norm_softmax": "norm-softmax",
        "proxy_anchor": "Proxy-Anchor",
        "multi_similarity": "MultiSimilarity",
        "contrastive": "Contrastive",
    }
    studies = [summary(f"baselines_{key}") for key in SETS]
    rows = [
        [
            name,
            *(
                value(study.loc[variant]) if variant in study.index else "left out"
                for study in studies
            ),
        ]
        for variant, name in names.items()
    ]
    return table(
        ["", *(f"[{name}](results/baselines_{key}/summary.md)" for key, name in SETS.items())], rows
    )


def _seen_classes() -> str:
    names = {"arc_face": "ArcFace", "cos_face": "CosFace", "norm_softmax": "norm-softmax"}
    rows = []
    for key, data in {"omniglot": "Omniglot", "glyphs": "Glyphs"}.items():
        seen, unseen = (summary(f"{kind}_classes_{key}") for kind in ("seen", "unseen"))
        for variant, name in names.items():
            cells = (
                text
                for study in (seen, unseen)
                for text in (value(study.loc[variant]), gain(study.loc[f"{variant}+ps"]))
            )
            rows.append([f"{data}: {name}", *cells])
    head = [text for kind in ("seen", "unseen") for text in (f"{kind} classes", "PS adds")]
    return table(["MAP@R", *head], rows)


# ----------------------------------------------------------------------------- tuned alike


def _tuned() -> str:
    rows = []
    for key in ("norm_softmax", "proxy_anchor"):
        studies = [summary(f"{data}_tuned") for data in DATA]
        rows.append([f"{LOSSES[key]}, tuned", *(value(study.loc[key]) for study in studies)])
        for by in ("ps", "see"):
            gains = (gain(study.loc[f"{key}+{by}"]) for study in studies)
            rows.append([f"{METHODS[by]}, tuned, adds", *gains])
    head = ["MAP@R", *(_linked(f"{data}_tuned", name) for data, name in DATA.items())]
    return table(head, rows)


def _trials() -> str:
    kinds = ("plain", "ps", "see")
    rows = []
    for data, name in DATA.items():
        for key in ("norm_softmax", "proxy_anchor"):
            before = f"{name}: " if key == "norm_softmax" else ""
            best = (_best_trial(f"{data}_tune_{kind}", key) for kind in kinds)
            rows.append([before + LOSSES[key], *best])
        tables = (f"[table](results/{data}_tune_{kind}/summary.md)" for kind in kinds)
        rows.append(["all trials", *tables])
    return table(["", "plain", "PS", "SEE"], rows)


def _best_trial(study: str, loss: str) -> str:
    trials = summary(study)[MAP].filter(like=loss)
    settings = trials.idxmax().removeprefix(f"{loss}_").replace("_", " ")
    # "scale 5 alpha 0.4 mu 1.0" in pairs.
    words = re.sub(r"\.0\b", "", settings.replace("expansions", "K")).split()
    pairs = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
    return f"{trials.max():.1f}: {', '.join(pairs)}"


# ------------------------------------------------------------------------------- by scale


def _scales() -> str:
    study = summary("omniglot_augmented_ps_by_scale")
    tables = []
    for loss, scales in SCALES.items():
        variants = [f"{loss}_scale_{scale}" for scale in scales]
        alone = ["alone", *(value(study.loc[variant]) for variant in variants)]
        added = ["PS adds", *(gain(study.loc[f"{variant}+ps"]) for variant in variants)]
        tables.append(table([f"{LOSSES[loss]}, scale", *scales], [alone, added]))
    return "\n\n".join(tables)


def _trial_scales() -> str:
    tables = []
    for loss, scales in SCALES.items():
        rows = [
            [name, *(_trial_gain(data, loss, scale) for scale in scales)]
            for data, name in DATA.items()
        ]
        tables.append(table([f"{LOSSES[loss]}, scale", *scales], rows))
    return "\n\n".join(tables)


def _trial_gain(data: str, loss: str, scale: str) -> str:
    """Write what PS adds to a trial, and the lowest and the highest of its seeds."""
    plain, mixed = (
        pd.read_csv(RESULTS / f"{data}_tune_{kind}" / "results.csv").set_index(["variant", "seed"])
        for kind in ("plain", "ps")
    )
    rate = summary(f"{data}_tune_plain")[MAP].filter(like=loss).idxmax().split("_rate_")[1]
    before = plain.loc[f"{loss}_scale_{scale}_rate_{rate}", MAP]
    after = mixed.loc[f"{loss}_scale_{scale}_alpha_0.4_mu_1.0", MAP]
    gains = 100 * (after - before)
    return f"{gains.mean():+.1f} ({gains.min():+.1f}, {gains.max():+.1f})"


# --------------------------------------------------------------------- classes and dimensions


def _classes(ending: str = "") -> str:
    rows = []
    for classes in CLASSES:
        name = f"glyphs_see_{classes}_classes{ending}"
        cells = [f"[{classes}](results/{name}/summary.md)"]
        for size in SIZES:
            variant = f"proxy_anchor_{size}d"
            cells += [value(summary(name).loc[variant]), gain(summary(name).loc[f"{variant}+see"])]
        rows.append(cells)
    columns = (column for size in SIZES for column in (f"{size} dimensions", "SEE adds"))
    return table(["training classes", *columns], rows)


# --------------------------------------------------------------------------------- speed


def _speed() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "speed" / "speed.csv")


def _steps() -> str:
    steps = _speed().query("what == 'PS step'")
    first = list(steps["loss"].unique()[:4])
    rows = []
    for (batch, dim, classes), of_size in steps.groupby(["B", "D", "C"], sort=False):
        for against, name in {"plain-big": f"{batch}, {dim}, {classes:,}", "bare": ""}.items():
            ratios = of_size.query("against == @against").set_index("loss")["ratio"]
            rows.append([name, f"against {against}", *(f"{ratios[loss]:.2f}" for loss in first)])
    return table(["B, D, C", "", *first], rows)


def _other_losses() -> str:
    steps = _speed().query("what == 'PS step' and C == 11318 and against == 'plain-big'")[4:]
    return table(steps["loss"], [[f"{ratio:.2f}" for ratio in steps["ratio"]]])


def _rows() -> str:
    made = _speed().query("against == 'per-row'")
    rows = [
        [
            row.what.replace("PS", "Proxy Synthesis").replace(" augmentation", ""),
            f"{row.B}, {row.D}, {row.C:,}",
            f"{row.ours:.2f} ms",
            f"{row.theirs:.1f} ms",
            f"{1 / row.ratio:.0f} times",
        ]
        for row in made.itertuples()
    ]
    return table(["", "B, D, C", "ours", "per-row", "faster"], rows)


def _method_steps() -> str:
    steps = _speed().query("what.str.contains(' step') and what != 'PS step'", engine="python")
    rows = []
    for (what, loss), of_loss in steps.groupby(["what", "loss"], sort=False):
        ratios = of_loss.set_index("against")["ratio"]
        if "plain-big" in ratios:
            name = what.replace(" step", "")
            rows.append([name, loss, *(f"{ratios[to]:.2f}" for to in ("plain-big", "bare"))])
    return table(["", "loss", "against plain-big", "against bare"], rows)


def _memory() -> str:
    found = _speed().query("what.str.endswith(' memory') and against == 'bare'", engine="python")
    rows = []
    for loss, of_loss in found.groupby("loss", sort=False):
        bare = of_loss.groupby("C")["theirs"].first()
        rows.append([f"**{loss}**", *(f"{size:,.0f}" for size in bare)])
        for what, sizes in of_loss.groupby("what", sort=False):
            more = sizes["ours"] - sizes["theirs"]
            rows.append([f"+ {what.removesuffix(' memory')}", *(f"{size:+,.0f}" for size in more)])
    return table(["MiB", *(f"C = {classes:,}" for classes in found["C"].unique())], rows)


OF_GAINS = (gains.TABLES, untuned_scales.TABLES, regimes.TABLES)
TABLES: dict[str, Callable[[], str]] = {
    "paper": _paper,
    "advice": _advice,
    "first_look": _first_look,
    "which_one": _which_one,
    "baselines": _baselines,
    "seen_classes": _seen_classes,
    "tuned": _tuned,
    "trials": _trials,
    "scales": _scales,
    "trial_scales": _trial_scales,
    "classes": _classes,
    "classes_tuned": partial(_classes, "_tuned"),
    "speed_steps": _steps,
    "speed_losses": _other_losses,
    "speed_methods": _method_steps,
    "speed_rows": _rows,
    "speed_memory": _memory,
    "augmenters": augmenters.overview,
    "methods_of_readme": partial(augmenters.methods, "docs/augmenters/"),
    "methods_of_home": partial(augmenters.methods, "augmenters/"),
    **{public.__name__: partial(augmenters.head, public) for public in augmenters.AUGMENTERS},
}
for _group in OF_GAINS:
    if _twice := TABLES.keys() & _group.keys():
        raise ValueError(f"Two tables are called {', '.join(_twice)}: give one another name.")
    TABLES |= _group

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill(page.read_text()))
