"""Translates the few words of reStructuredText in the docstrings into Markdown."""

import re
import textwrap
from typing import Any

import griffe

# The line of the directive, and what stands indented below it.
_DISPLAYED = re.compile(r"^\.\. math::(.*\n(?:[ ]+\S.*\n|\n(?=[ ]))*)", re.MULTILINE)
_INLINE = re.compile(r":math:`(.+?)`", re.DOTALL)
_REFERENCE = re.compile(r":(?:attr|class|func|meth):`~?((?:\w+\.)*(\w+))`")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_HEADING = re.compile(r"^(Source|Default reducer[^:\n]*): ", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Hands every docstring over in Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Translate the docstring of a module, class, function or attribute that has one."""
        if obj.docstring:
            obj.docstring.value = in_markdown(obj.docstring.value)


def in_markdown(docstring: str) -> str:
    """Return a docstring with formulas, references and headings as the pages have them."""
    text = _DISPLAYED.sub(_displayed, docstring + "\n")
    text = _INLINE.sub(r"$\1$", text)
    text = _REFERENCE.sub(r"[`\2`][\1]", text)
    text = _EXAMPLE.sub("Examples:", text)
    return _HEADING.sub(r"**\1:** ", text).strip()


def _displayed(match: re.Match[str]) -> str:
    formula = textwrap.dedent(match[1]).strip()
    return f"$$\n{formula}\n$$\n\n"
