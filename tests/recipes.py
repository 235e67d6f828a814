"""The augmenters of docs/recipes.md, over which the tests of the seam run."""

import re
from pathlib import Path

from pml_synthesis import BaseAugmenter

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
_TEXT = PAGE.read_text()
_BLOCKS = re.findall(r"^```python\n(.*?)^```$", _TEXT, flags=re.MULTILINE | re.DOTALL)
_START = next(i for i, block in enumerate(_BLOCKS) if "class Noise(" in block)
for _block in [_BLOCKS[0], *_BLOCKS[_START:]]:
    # Of each block the classes alone, not what is tried with them.
    exec(re.split(r"^(?=images, |remembering = )", _block, flags=re.MULTILINE)[0], globals())


def recipe(name: str) -> type[BaseAugmenter]:
    """Return an augmenter of the page by its name."""
    return globals()[name]
