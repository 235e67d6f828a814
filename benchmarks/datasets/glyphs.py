"""Glyphs: letters of five scripts, drawn from the DejaVu fonts that come with matplotlib."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torch.nn import functional as F

from benchmarks.datasets.image_classes import ImageClasses, check_split
from benchmarks.datasets.squares import Inverted, Squares
from pml_synthesis._checks import expect

# Letters that all twelve fonts share and that have no decomposition; of lookalikes and of upper
# and lower case that differ in size alone, the first is kept.
LETTERS = {
    "Latin": (
        "ABCDEGHIJKLMNOPQRSTUVWXYZabdefgkmnrtÆØÞßæðþħĸŁŊŒƁƄƆƇƊƋƎƏƐƑƒƔƕƛƜƝƢƣƤƦƧƩƪƫƮƱƴƶƷƸƺƻƼƾƿǁǂǃǶȜȡ"
        "ȤȴȵȶȸȹȺȻȾȿɀɁɐɑɒɕɖɗɘɚɜɝɞɟɠɤɥɧɨɩɪɬɭɮɯɰɱɳɷɸɹɺɻɼɾɿʁʂʃʇʉʋʌʍʎʐʑʓʔʕʖʗʚʛʝʞʟʠʣʤʦʧʨʩʪʫʬʭʮᴔᴖᴗᴝᴞᴟᶅẟ"
        "ⱤⱮⱵⱷⱺⱾꜦꞋꞍꞐꞑꞪ"
    ),
    "Greek": "ΓΔΞΦΨΩβζμνξρςστωϗϘϚϞϟϠϡϺϻ",
    "Cyrillic": "ЂЉЊЋЏДЖЛЩЪЫЮЯифђєћѢѣҐғҕҖҘҚҢҤҪҭұҲҺӃӋӶ",
    "Armenian": "ԲԳԴԵԶԷԸԹԺԻԽԾԿՀՁՃՄՅՆՇՈՉՊՎՐՒՔՖզէթխծձճշչջվփքֆ",
    "Georgian": "აბგდეზიკლნოჟრსტუფქღყშჩცძჭჯჰჱჲჳჴჵჶჸჹჺ",
}
FONTS = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, styles in {
        "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
    }.items()
    for style in styles
)
DRAWS = 2  # images of a letter in each font
SIZE = 28  # pixels

_ALPHABET = "".join(LETTERS.values())
_EM = 20  # pixels; the widest letter just fits
_OUTLINE = 3 * SIZE  # outlines are drawn, and distorted, at higher resolutions than SIZE
_DISTORTED = 2 * SIZE


class Glyphs(ImageClasses):
    """Letters as classes, 24 distorted images of each: float [N, 1, 28, 28] in [0, 1], ink high.

    Latin letters train, every fifth of them held out for validation; Greek, Cyrillic, Armenian
    and Georgian letters are the test set. Nothing is downloaded: the images are drawn in a few
    seconds, once a process, and depend on nothing but the seed (and on the versions of the
    libraries that draw them).

    Arguments:
        split: "train", "val", "trainval" (both together) or "test".
        seed: of the distortions.
        transform: applied to each batch of images, see ImageClasses.
        num_classes: so many letters of the split, spread evenly over it; all of them by default.
        test_scripts: those whose letters are the test set; the others' train and validate.

    Raises:
        ValueError: if there is no such split, script or number of letters.

    Example:
        >>> len(Glyphs("test").class_names)
        139
    """

    def __init__(
        self,
        split: str = "train",
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
        num_classes: int | None = None,
        test_scripts: Sequence[str] = ("Greek", "Cyrillic", "Armenian", "Georgian"),
    ) -> None:
        check_split(split)
        letters = spread_evenly(_letters(split, test_scripts), num_classes)
        images = _draw_alphabet(seed)[[_ALPHABET.index(letter) for letter in letters]]
        labels = torch.arange(len(letters)).repeat_interleave(images.shape[1])
        super().__init__(images.flatten(0, 1)[:, None] / 255, labels, letters, transform)

    @staticmethod
    def preparation() -> list[Callable[[Any], Any]]:
        """Return how a picture of dark ink on light paper is read, see ImageClasses."""
        return [Squares(SIZE, grey=True), Inverted()]


def _letters(split: str, test_scripts: Sequence[str]) -> str:
    some = f"some of {', '.join(LETTERS)}, not all"
    expect(set(test_scripts) < set(LETTERS), "test_scripts", some, list(test_scripts))
    known = "".join(LETTERS[script] for script in LETTERS if script not in test_scripts)
    held_out = known[4::5]
    return {
        "train": "".join(letter for letter in known if letter not in held_out),
        "val": held_out,
        "trainval": known,
        "test": "".join(LETTERS[script] for script in LETTERS if script in test_scripts),
    }[split]


def spread_evenly(letters: str, number: int | None) -> str:
    """Return so many of the letters, evenly spread over them; all for None."""
    if number is None:
        return letters
    most = f"from 1 to {len(letters)}, the letters of the split"
    expect(1 <= number <= len(letters), "num_classes", most, number)
    return "".join(letters[rank * len(letters) // number] for rank in range(number))


@lru_cache(maxsize=1)
def _draw_alphabet(seed: int) -> Tensor:
    # All splits at once: the images of one then cannot depend on which others are asked for.
    return draw_letters(_ALPHABET, seed)


def draw_letters(letters: str, seed: int) -> Tensor:
    """Draw each letter DRAWS times in each of FONTS: uint8 [len(letters), 24, 28, 28].

    The numbers drawn depend on the seed alone, never on the global random state.
    """
    generator = torch.Generator().manual_seed(seed)
    fonts = []
    for font in FONTS:
        path = Path(matplotlib.get_data_path(), "fonts", "ttf", font)
        outlines = draw_outlines(letters, path).repeat_interleave(DRAWS, dim=0)
        fonts.append(distort(outlines, generator).unflatten(0, (len(letters), DRAWS)))
    # Eight bits, as in a scanned image.
    return torch.cat(fonts, dim=1).mul(255).round().byte()


def draw_outlines(letters: str, path: Path) -> Tensor:
    """Return blurred letters on a common baseline, [len(letters), 1, 84, 84] in [0, 1]."""
    scale = _OUTLINE / SIZE
    basic = ImageFont.Layout.BASIC  # there whatever libraries Pillow was built with
    font = ImageFont.truetype(str(path), round(_EM * scale), layout_engine=basic)
    # The letters reach from 0.92 em above the baseline to 0.24 em below it.
    baseline = _OUTLINE / 2 + 0.34 * _EM * scale
    blur = ImageFilter.GaussianBlur(0.4 * scale)
    outlines = np.empty((len(letters), 1, _OUTLINE, _OUTLINE), dtype=np.float32)
    for outline, letter in zip(outlines, letters, strict=True):
        image = Image.new("L", (_OUTLINE, _OUTLINE))
        ImageDraw.Draw(image).text((_OUTLINE / 2, baseline), letter, 255, font, anchor="ms")
        outline[0] = np.asarray(image.filter(blur))
    return torch.from_numpy(outlines / 255)


def distort(outlines: Tensor, generator: torch.Generator) -> Tensor:
    """Bend, thicken, fade and speckle outlines: [N, 1, 84, 84] -> [N, 28, 28] in [0, 1]."""
    count = len(outlines)
    draws = 2 * torch.rand(count, 8, generator=generator) - 1
    threshold = 0.5 + 0.12 * draws[:, 6]
    contrast = 0.85 + 0.15 * draws[:, 7]
    grid = _affine_grid(*draws[:, :6].unbind(1)) + _elastic_field(count, generator)
    ink = F.grid_sample(outlines, grid, align_corners=False)
    # Where a blurred edge is cut decides how wide the stroke is.
    ink = (5 * (ink - threshold.view(-1, 1, 1, 1)) + 0.5).clamp(0, 1)
    image = contrast.view(-1, 1, 1) * F.avg_pool2d(ink, _DISTORTED // SIZE)[:, 0]
    return (image + 0.06 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def _affine_grid(
    rotation: Tensor, scale: Tensor, aspect: Tensor, shear: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """Places to sample, [N, _DISTORTED, _DISTORTED, 2], from numbers in [-1, 1]."""
    angle = math.radians(12) * rotation
    width = (0.12 * scale + 0.06 * aspect).exp()
    height = (0.12 * scale - 0.06 * aspect).exp()
    cos, sin, slant = angle.cos(), angle.sin(), 0.15 * shear
    shift = 1.5 / (SIZE / 2)  # half the image is the unit of a grid
    rows = [width * cos, height * (slant * cos - sin), shift * x]
    rows += [width * sin, height * (slant * sin + cos), shift * y]
    matrices = torch.stack(rows, dim=1).view(-1, 2, 3)
    return F.affine_grid(matrices, [len(angle), 1, _DISTORTED, _DISTORTED], align_corners=False)


def _elastic_field(count: int, generator: torch.Generator) -> Tensor:
    """Smooth random displacements [N, _DISTORTED, _DISTORTED, 2]."""
    knots = 0.6 / (SIZE / 2) * torch.randn(count, 2, 5, 5, generator=generator)
    size = (_DISTORTED, _DISTORTED)
    field = F.interpolate(knots, size, mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)
