"""Turns the formulas of the pages into MathML while they are built: no script, no network."""

import re

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority


class Formula(InlineProcessor):
    """A formula between dollar signs."""

    def __init__(self, pattern: str, md: Markdown, display: str) -> None:
        super().__init__(pattern, md)
        self.display = display

    def handleMatch(self, match: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        """Put the formula aside, so that nobody reads Markdown into it."""
        mathml = convert(" ".join(match[1].split()), display=self.display)
        # The bars of a norm would grow to the height of the whole formula.
        mathml = mathml.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')
        if self.display == "block":
            # A formula that is wider than the page scrolls in it.
            mathml = f'<span class="formula">{mathml}</span>'
        return self.md.htmlStash.store(mathml), match.start(), match.end()


class Formulas(Extension):
    """Adds `$...$` in a line and `$$...$$` in a paragraph of its own to Markdown."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Come behind code in backticks (190), and before escapes (180): backslashes are ours."""
        block = Formula(r"\$\$(.+?)\$\$", md, "block")
        inline = Formula(r"\$(?! )([^$]+?)(?<! )\$", md, "inline")
        md.inlinePatterns.register(block, "formula_block", 186)
        md.inlinePatterns.register(inline, "formula_inline", 185)


# Before mkdocstrings takes note of the extensions, for the docstrings.
@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the formulas to what the pages may have."""
    config.markdown_extensions.append(Formulas())
    return config
