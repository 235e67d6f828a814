"""Leaves the pages of single studies out of the search, and leads from them to the page of all."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.pages import Page

FOLDER = "results/"
WAY_BACK = "One of the studies of [what the methods gain](../../gains.md)."


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Mark the pages that the runner wrote, and put a link below their titles."""
    if not page.file.src_uri.startswith(FOLDER):
        return markdown
    page.meta["search"] = {"exclude": True}
    title, _, text = markdown.partition("\n")
    return f"{title}\n\n{WAY_BACK}\n{text}"
