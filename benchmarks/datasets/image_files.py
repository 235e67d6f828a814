"""Pictures that stay on disk until a batch needs them, and how a picture is read."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImagePalette, UnidentifiedImageError
from torch import Tensor


class ImageFiles:
    """Files of pictures of any size: `files[rows]` reads some of them, upright, in RGB.

    For sets that are too large to be held in memory. A dataset of these needs a transform that
    makes a batch out of a list of pictures, such as CenterCrop.

    Arguments:
        paths: of the files.

    Example:
        >>> files = ImageFiles(["birds/1.jpg", "birds/2.jpg"])
        >>> len(files)
        2
        >>> files[torch.tensor([1, 0])]  # doctest: +SKIP
        [<PIL.Image.Image image mode=RGB size=500x335>, <PIL.Image.Image image mode=RGB ...>]
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = tuple(str(path) for path in paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> list[Image.Image]:
        return [read_picture(self.paths[row]) for row in rows.tolist()]


# Whatever a file is called. Pillow reads others with the help of programs, such as PostScript.
# Pillow knows them by name once all are loaded.
Image.init()
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM")


def read_picture(
    path: str | Path, mode: str = "RGB", content: bytes | None = None, advice: str | None = None
) -> Image.Image:
    """Return a picture as its camera was held, in a mode of Pillow with 8 bits a channel.

    Transparent parts become white. Brightness of 16 bits (12 in some TIFF files) is scaled to 8
    bits, and brightness in floating point is taken to be in [0, 1]. Of several frames the first
    is taken.

    Arguments:
        path: of the file, also for messages.
        mode: "RGB" or "L".
        content: of the file, if it is read already, such as from an archive.
        advice: what to do about a file that cannot be read; by default to convert or remove it.

    Raises:
        OSError: if it cannot be read, or its brightness has no known white; the message names the
            file.
    """
    try:
        given = path if content is None else io.BytesIO(content)
        with Image.open(given, formats=FORMATS) as picture:
            _scale_transparent_grey(picture)
            _scale_palette(picture)
            _refuse_separate_planes(picture)
            picture.load()
            return upright(picture).convert(mode)
    # What Pillow's decoders raise on broken files is not documented; SyntaxError, ValueError and
    # struct.error have been seen.
    except Exception as error:
        reason, remedy = _reason(error, path, content)
        raise OSError(
            f"{path} cannot be read as an image: {reason}. {advice or f'{remedy}, or remove it.'}"
        ) from error


def upright(picture: Image.Image) -> Image.Image:
    """Return a picture as its camera was held, in RGB, see read_picture.

    Raises:
        ValueError: if its brightness has no known white.
    """
    turned = ImageOps.exif_transpose(picture)
    return _without_alpha(_in_eight_bits(turned, picture))


def pixels(picture: Image.Image) -> Tensor:
    """Return a picture with 8 bits a channel as float [channels, H, W] in [0, 1]."""
    values = torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
    return values[None] if values.dim() == 2 else values.permute(2, 0, 1).contiguous()


def _reason(error: Exception, path: str | Path, content: bytes | None) -> tuple[str, str]:
    """Return why a picture cannot be read, and what helps."""
    if isinstance(error, Image.DecompressionBombError):
        return f"it has too many pixels for Pillow ({str(error).rstrip('.')})", "Reduce its size"
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "Put it back"
    if isinstance(error, UnidentifiedImageError):
        empty = (Path(path).stat().st_size == 0) if content is None else not content
        found = "it is empty (0 bytes)" if empty else "Pillow does not know its format"
        return found, "Save it as PNG or JPEG"
    return str(error).rstrip(".") or type(error).__name__, "Save it again as PNG or JPEG"


def _in_eight_bits(upright: Image.Image, original: Image.Image) -> Image.Image:
    """Return grey of more than 8 bits with 8, any other picture as it is."""
    white = _white(original)
    if white is None:
        return upright
    pixels = np.asarray(upright, dtype=np.float64)
    if not (pixels.min() >= 0 and pixels.max() <= white):
        raise ValueError(
            f"its brightness is expected in [0, {white:g}] but goes from {pixels.min():g} to "
            f"{pixels.max():g}"
        )
    if "transparency" in original.info:
        pixels = np.where(pixels == original.info["transparency"], white, pixels)
    if _tiff_tag(original, _PHOTOMETRIC, 1) == 0:  # Pillow inverts such grey of 8 bits only
        pixels = white - pixels
    return Image.fromarray(np.rint(pixels * (255 / white)).astype(np.uint8))


# What Pillow multiplies grey of few bits with.
_FEW_BITS = {"L;2": 85, "L;4": 17}


def _scale_transparent_grey(picture: Image.Image) -> None:
    """Let the transparent colour of a PNG file have the depth that Pillow is to give its pixels."""
    colour = picture.info.get("transparency")
    if picture.format != "PNG" or colour is None:
        return
    stored = picture.tile[0][3]  # the mode in the file, until it is loaded
    if stored in _FEW_BITS:
        picture.info["transparency"] = colour * _FEW_BITS[stored]
    elif stored == "RGB;16B":
        raise ValueError(
            "one of its colours of 16 bits is transparent, which in 8 bits is the same as others"
        )


def _scale_palette(picture: Image.Image) -> None:
    """Let a TIFF palette that was written with 8 bits be read as such, as libtiff's tools do."""
    colours = getattr(picture, "tag_v2", {}).get(_COLOUR_MAP)
    if picture.mode in ("P", "PA") and colours and max(colours) < 256:
        picture.palette = ImagePalette.raw("RGB;L", bytes(colours))


def _refuse_separate_planes(picture: Image.Image) -> None:
    """Raise a ValueError for what Pillow would scramble without a word."""
    if (
        _tiff_tag(picture, _PLANES, 1) == 2
        and _tiff_tag(picture, _SAMPLES_PER_PIXEL, 1) > 1
        and _tiff_tag(picture, _BITS_PER_SAMPLE, 1) > 8
        and picture.tile[0][0] != "libtiff"  # which reads those that are compressed
    ):
        raise ValueError("its channels of 16 bits lie in separate planes, which Pillow cannot read")


def _white(picture: Image.Image) -> float | None:
    """The brightness of white where Pillow does not scale it to 255."""
    if picture.mode.startswith("I;16"):
        return 2.0 ** _tiff_tag(picture, _BITS_PER_SAMPLE, 16) - 1
    if picture.mode == "F":
        return 1.0
    if picture.mode != "I":
        return None
    if picture.format == "TIFF":
        raise ValueError("its brightness is signed or has 32 bits, so that no white is known")
    return 65535.0  # of PNG and PGM


_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_SAMPLES_PER_PIXEL = 277
_PLANES = 284
_COLOUR_MAP = 320


def _tiff_tag(picture: Image.Image, tag: int, default: int) -> int:
    value = getattr(picture, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _without_alpha(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB, what is transparent on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    if picture.mode == "La":  # Pillow converts premultiplied grey to nothing else
        picture = picture.convert("LA")
    colours = picture.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours).convert("RGB")
