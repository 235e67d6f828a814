"""Leaves the pages of single studies out of the search: what the other pages say is found first."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.pages import Page

FOLDER = "results/"


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Mark the pages that the runner wrote."""
    if page.file.src_uri.startswith(FOLDER):
        page.meta["search"] = {"exclude": True}
    return markdown
