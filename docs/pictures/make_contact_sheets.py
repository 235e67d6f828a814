"""Makes the pictures of the sets in docs/datasets.md: a line of images for each of some classes.

python docs/pictures/make_contact_sheets.py DATA, where DATA holds the folders emoji, fonts, grocery
and omniglot.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from benchmarks.datasets import Emoji, FontGlyphs, Glyphs, GroceryStore, ImageClasses, Omniglot

GAP = 4  # pixels around each image


def sheet(
    dataset: ImageClasses, lines: int, columns: int, size: int, per_class: int
) -> Image.Image:
    """Draw `per_class` images of each of some classes, spread over the set, one after another."""
    across = columns // per_class
    picture = Image.new("RGB", (columns * (size + GAP) + GAP, lines * (size + GAP) + GAP), "white")
    for i in range(lines * across):
        label = i * len(dataset.class_names) // (lines * across)
        rows = (dataset.labels == label).nonzero().flatten()
        for k in range(per_class):
            image = dataset.images[rows[k * len(rows) // per_class]]
            column, line = i % across * per_class + k, i // across
            place = (GAP + column * (size + GAP), GAP + line * (size + GAP))
            picture.paste(_drawn(image).resize((size, size), Image.Resampling.BICUBIC), place)
    return picture.quantize(128)


def _drawn(image: torch.Tensor) -> Image.Image:
    pixels = image - image.min() if len(image) == 1 else image
    if len(image) == 1:  # ink is high there; on paper it is dark
        pixels = (1 - pixels / pixels.max()).expand(3, -1, -1)
    return Image.fromarray((pixels.permute(1, 2, 0) * 255).byte().numpy())


def main(data: Path, folder: Path) -> None:
    """Make all pictures."""
    sheets = {
        "glyphs": sheet(Glyphs("test"), 4, 16, 40, 8),
        "omniglot": sheet(Omniglot(data / "omniglot", "test", subset="small"), 4, 16, 40, 8),
        "fonts": sheet(FontGlyphs(data / "fonts", "test"), 4, 16, 40, 8),
        "emoji": sheet(Emoji(data / "emoji", "test", size=40), 4, 16, 40, 4),
        "grocery": sheet(GroceryStore(data / "grocery", "test"), 3, 12, 56, 4),
    }
    for name, picture in sheets.items():
        picture.save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
