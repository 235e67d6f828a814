"""Wrong labels on purpose, so that losses can be compared by how they bear them."""

import torch
from torch import Tensor

from benchmarks.datasets.image_classes import ImageClasses
from pml_synthesis._checks import expect, is_number


class NoisyLabels(ImageClasses):
    """A dataset of which a share of the images, drawn at random, is labelled as another class.

    Each of them gets a class other than its own, all with equal probability: symmetric label noise.
    Of one dataset and seed, a larger share mislabels the images of a smaller one, and others.

    Arguments:
        whole: the dataset.
        share: of its images that get a wrong label, in [0, 1).
        seed: of the draw.

    Raises:
        ValueError: if share is outside of [0, 1), the dataset has a single class, or no image is
            left with the label of one of them.

    Source:
        Patrini et al., "Making deep neural networks robust to label noise", CVPR 2017, section 4
        (symmetric noise).

    Example:
        >>> whole = ImageClasses(torch.zeros(6, 1, 28, 28), torch.arange(6) % 3, "abc")
        >>> noisy = NoisyLabels(whole, share=0.5)
        >>> int((noisy.labels != whole.labels).sum())
        3
    """

    def __init__(self, whole: ImageClasses, share: float, seed: int = 0) -> None:
        expect(is_number(share) and 0 <= share < 1, "share", "in [0, 1)", share)
        classes = len(whole.class_names)
        expect(classes > 1, "whole", "a dataset of several classes", f"{classes} class")
        labels = _mislabelled(whole.labels, classes, share, seed)
        super().__init__(whole.images, labels, whole.class_names, whole.transform, whole.files)


def _mislabelled(labels: Tensor, classes: int, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Both draws are of the whole dataset: what an image gets does not depend on the share.
    order = torch.randperm(len(labels), generator=generator)
    steps = torch.randint(1, classes, labels.shape, generator=generator)
    wrong = order[: round(share * len(labels))]
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + steps[wrong]) % classes
    return noisy
