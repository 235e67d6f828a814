"""FontGlyphs: characters of any script, drawn from a folder of fonts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.ft2font import FT2Font
from torch import Tensor

from benchmarks.datasets.cache import cached
from benchmarks.datasets.checks import checked_root
from benchmarks.datasets.class_splits import split_classes
from benchmarks.datasets.file_tree import FileTree
from benchmarks.datasets.glyphs import SIZE, distort, draw_outlines, spread_evenly
from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.squares import Inverted, Squares
from pml_synthesis._checks import expect_integer

SUFFIXES = (".ttf", ".otf")
CHINESE = range(0x4E00, 0xA000)  # the block "CJK Unified Ideographs"
SOURCE = (
    "https://github.com/fontworks-fonts (the repositories RocknRoll, Reggae, DotGothic16, Stick "
    "and Rampart) and https://github.com/googlefonts (kosugi-maru, zen-marugothic and "
    "zen-kakugothic), all with 6,675 Chinese characters, or take fonts of your own"
)
_CHUNK = 64  # characters, whose outlines are in memory at once


class FontGlyphs(ImageClasses):
    """Characters as classes, drawn from fonts: float [N, 1, 28, 28] in [0, 1], ink high.

    Each character that all fonts have is drawn `draws` times in each of them, bent, thickened,
    faded and speckled as in Glyphs: with the eight Japanese fonts of the settings file, 6,675
    classes of 16 images. The number of training classes can be chosen, so that methods can be
    compared by it. What is drawn once (two minutes for 6,000 characters) is kept in a cache on
    disk.

    Arguments:
        root: the folder of the fonts, .ttf or .otf, at any depth.
        split: "train", "val", "trainval" (both together) or "test".
        characters: those to draw; by default all Chinese ones (4E00 to 9FFF) that all fonts have.
        num_classes: so many characters of the split, spread evenly over it; all by default.
        validation: the characters that leave the training split for the validation split: a text,
            or a fraction of all, drawn, always the same.
        test: the characters of the test split, given alike.
        draws: images of a character in each font.
        seed: of the distortions. An image depends on it, the character and the fonts alone.
        transform: applied to each batch of images, see ImageClasses.

    Raises:
        FileNotFoundError: if there is no font.
        OSError: if a font cannot be read, or draws nothing for a character.
        ValueError: if there is no such split, a font lacks one of `characters`, the fonts share no
            Chinese characters, a split has too few, or draws is below 1.

    Example:
        >>> len(FontGlyphs("data/fonts", "train", num_classes=50).class_names)  # doctest: +SKIP
        50
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        characters: str | None = None,
        num_classes: int | None = None,
        validation: float | str = 0.04,
        test: float | str = 0.06,
        draws: int = 2,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_split(split)
        expect_integer("draws", draws)
        fonts, stamp = _find_fonts(checked_root(root))
        every = _shared_characters(fonts, characters)
        chosen = split_classes(every, split, _listed(validation), _listed(test), seed=0)
        letters = spread_evenly("".join(chosen), num_classes)
        key = (stamp, letters, draws, seed)
        images = cached("font_glyphs", key, lambda: _draw(letters, fonts, draws, seed))
        labels = torch.arange(len(letters)).repeat_interleave(images.shape[1])
        super().__init__(images.flatten(0, 1)[:, None] / 255, labels, letters, transform)

    @staticmethod
    def preparation() -> list[Callable[[Any], Any]]:
        """Return how a picture of dark ink on light paper is read, see ImageClasses."""
        return [Squares(SIZE, grey=True), Inverted()]


def _find_fonts(root: Path) -> tuple[list[Path], str]:
    """Return the fonts of a folder, and what tells them from others."""
    if root.is_dir():
        tree = FileTree(root, SOURCE)
        names = [name for name in tree.names if name.lower().endswith(SUFFIXES)]
        if names:
            return [tree.where(name) for name in names], tree.stamp(names)
    raise FileNotFoundError(
        f"There are no fonts ({', '.join(SUFFIXES)}) in {root}. Clone {SOURCE}."
    )


def _shared_characters(fonts: Sequence[Path], characters: str | None) -> list[str]:
    known = {font: _characters_of(font) for font in fonts}
    wanted = {chr(code) for code in CHINESE} if characters is None else set(characters)
    shared = sorted(wanted.intersection(*known.values()))
    if not shared or (characters is not None and len(shared) < len(wanted)):
        lacking = {font.name: sorted(wanted - there) for font, there in known.items()}
        each = [
            f"{name} {len(lost)}, such as {''.join(lost[:5])}"
            for name, lost in lacking.items()
            if lost
        ]
        raise ValueError(
            f"Expected argument `characters` to be some that all {len(fonts)} fonts have, but of "
            f"{len(wanted)} these fonts lack some: {'; '.join(each)}. Leave these characters out, "
            "or take the fonts away."
        )
    return shared


def _characters_of(font: Path) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(str(font)).get_charmap()}
    except (RuntimeError, OSError) as error:
        raise OSError(f"{font} cannot be read as a font: {error}. Replace or remove it.") from error


def _listed(classes: float | str) -> float | Sequence[str]:
    return list(classes) if isinstance(classes, str) else classes


def _draw(letters: str, fonts: Sequence[Path], draws: int, seed: int) -> Tensor:
    """Draw letters: uint8 [len(letters), len(fonts) * draws, SIZE, SIZE]."""
    images = torch.empty(len(letters), len(fonts) * draws, SIZE, SIZE, dtype=torch.uint8)
    for start in range(0, len(letters), _CHUNK):
        chunk = letters[start : start + _CHUNK]
        outlines = torch.stack([_outlines(chunk, font) for font in fonts], dim=1)
        for i, letter in enumerate(chunk):
            # A generator for each letter: its images depend on no other.
            generator = torch.Generator().manual_seed(seed * 0x110000 + ord(letter))
            drawn = distort(outlines[i].repeat_interleave(draws, dim=0), generator)
            images[start + i] = drawn.mul(255).round().byte()  # eight bits, as in Glyphs
    return images


def _outlines(letters: str, font: Path) -> Tensor:
    outlines = draw_outlines(letters, font)
    for letter, outline in zip(letters, outlines, strict=True):
        if not outline.any():
            raise OSError(
                f"{font} draws nothing for {letter!r} (U+{ord(letter):04X}). Leave it out of "
                "`characters`, or take the font away."
            )
    return outlines
