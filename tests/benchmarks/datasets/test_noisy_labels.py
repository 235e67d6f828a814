"""Labels that are wrong on purpose."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.datasets import Glyphs, ImageClasses, NoisyLabels
from benchmarks.settings.objects import build

shares = st.floats(0, 0.9)
seeds = st.integers(0, 2**31)


def classes_of(num: int, each: int) -> ImageClasses:
    labels = torch.arange(num).repeat_interleave(each)
    images = torch.arange(num * each).float().view(-1, 1, 1, 1)
    return ImageClasses(images, labels, [f"class {i}" for i in range(num)], transform=torch.neg)


@given(shares, seeds)
def test_exactly_the_share_is_mislabelled_and_nothing_else_changes(share, seed):
    whole = classes_of(4, 25)
    noisy = NoisyLabels(whole, share, seed)
    assert int((noisy.labels != whole.labels).sum()) == round(share * 100)
    assert noisy.images is whole.images
    assert (noisy.class_names, noisy.transform) == (whole.class_names, whole.transform)
    assert whole.labels.equal(classes_of(4, 25).labels), "the dataset itself is left alone"


@given(shares, shares, seeds)
def test_a_larger_share_has_the_wrong_labels_of_a_smaller_one(one, other, seed):
    whole = classes_of(4, 25)
    less, more = (NoisyLabels(whole, share, seed).labels for share in sorted([one, other]))
    wrong = less != whole.labels
    assert less[wrong].equal(more[wrong])


def test_all_other_classes_are_as_likely():
    whole = classes_of(5, 4000)
    noisy = NoisyLabels(whole, 0.5)
    for label in range(5):
        got = noisy.labels[(whole.labels == label) & (noisy.labels != label)]
        shares = got.bincount(minlength=5) / len(got)
        assert shares[label] == 0
        assert torch.allclose(shares.sum() / 4, shares[shares > 0], atol=0.04)


def test_seeds_differ_and_repeat():
    whole = classes_of(4, 25)
    first, again, other = (NoisyLabels(whole, 0.3, seed).labels for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("share", [-0.1, 1, float("nan"), "0.1"])
def test_shares_that_are_none_are_refused(share):
    with pytest.raises(ValueError, match=r"`share` to be in \[0, 1\), but got"):
        NoisyLabels(classes_of(2, 2), share)


def test_a_single_class_has_no_wrong_labels():
    with pytest.raises(
        ValueError, match="`whole` to be a dataset of several classes, but got '1 class'"
    ):
        NoisyLabels(classes_of(1, 3), 0.1)


def test_a_settings_file_can_name_it():
    whole = {"Glyphs": {"num_classes": 5}}
    noisy = build({"NoisyLabels": {"whole": whole, "share": 0.1}})
    assert int((noisy.labels != Glyphs(num_classes=5).labels).sum()) == round(0.1 * len(noisy))
