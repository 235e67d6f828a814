"""Pictures that stay on disk until a batch needs them."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
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


def read_picture(path: str | Path, mode: str = "RGB") -> Image.Image:
    """Return a picture as its camera was held, in a mode of Pillow.

    Raises:
        OSError: if it cannot be read; the message names the file.
    """
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert(mode)
    except (OSError, UnidentifiedImageError) as error:
        raise OSError(f"{path} cannot be read as an image: {error}. Mend or remove it.") from error
