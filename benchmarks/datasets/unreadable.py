"""Images that cannot be read, told all at once."""

from collections.abc import Sequence

from benchmarks.datasets.class_folders import MOST_NAMES


class UnreadableImagesError(OSError):
    """Images that cannot be read; the message counts them, and names the first.

    Arguments:
        reasons: a message about each, which names it.
        images: how many images there are, those that can be read included.
    """

    def __init__(self, reasons: Sequence[str], images: int) -> None:
        self.reasons = tuple(reasons)
        self.images = images
        super().__init__(self.reasons, images)

    def __str__(self) -> str:
        more = len(self.reasons) - MOST_NAMES
        shown = [*self.reasons[:MOST_NAMES], *([f"and {more} more"] if more > 0 else [])]
        head = f"{len(self.reasons)} of {self.images} images cannot be read:"
        return "\n  ".join([head, *shown])
