"""Writes the tables and the pictures of differences in docs/results again, from each summary.csv.

python -m docs.extensions.studies
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmarks.reporting import plots
from benchmarks.reporting.report import ON_PAGES, figures, markdown

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = sorted(RESULTS.glob("*/summary.md"))
TABLE = re.compile(r"^\|.*?\n(?=\n)", re.DOTALL | re.MULTILINE)


def fill(page: Path) -> str:
    """Return the page of a study with its table made anew."""
    return TABLE.sub(
        lambda _: f"{markdown(figures(summary(page), ON_PAGES))}\n", page.read_text(), 1
    )


def summary(page: Path) -> pd.DataFrame:
    """Return the statistics beside a page."""
    return pd.read_csv(page.with_name("summary.csv"), dtype={"verdict": str}).fillna(
        {"verdict": ""}
    )


def draw(page: Path) -> None:
    """Draw the differences of a study that has some."""
    compared = summary(page).query("verdict != ''")
    if len(compared):
        plots.save({"differences.png": plots.draw_differences(compared)}, page.parent)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill(page))
        draw(page)
