"""Fills patterns such as `augmenters/*.md` in the navigation, so that a new page is found there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the patterns before the pages are read."""
    config.nav = filled(config.nav, Path(config.docs_dir))
    return config


def filled(entries: list[Any], docs: Path) -> list[Any]:
    """Return entries of the navigation with every pattern replaced by the pages not named there."""
    named = {entry for entry in entries if isinstance(entry, str)}
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            [(title, below)] = entry.items()
            found.append({title: filled(below, docs) if isinstance(below, list) else below})
        elif "*" in entry:
            pages = sorted(str(page.relative_to(docs)) for page in docs.glob(entry))
            found += [page for page in pages if page not in named]
        else:
            found.append(entry)
    return found
