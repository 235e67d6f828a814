"""Writes tables of Markdown."""

from collections.abc import Iterable

import pandas as pd


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are written already."""
    frame = pd.DataFrame([list(row) for row in rows], columns=list(head))
    return frame.to_markdown(index=False, tablefmt="github", disable_numparse=True)
