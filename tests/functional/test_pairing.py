import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pml_synthesis.functional import class_distinct_pairs, class_matching_pairs, class_sharing_pairs

labels_lists = st.lists(st.integers(0, 9), min_size=0, max_size=60)


def draw(labels, seed):
    sorted_labels = torch.tensor(labels, dtype=torch.int64).sort().values
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(len(set(labels)), generator=generator)
    members = torch.randperm(len(labels), generator=generator)
    return sorted_labels, class_distinct_pairs(sorted_labels, places, members)


@settings(max_examples=300, deadline=None)
@given(labels_lists, st.integers(0, 1000))
def test_no_pair_within_a_class_and_each_row_paired_once(labels, seed):
    sorted_labels, (rows, partners) = draw(labels, seed)
    assert (sorted_labels[rows] != sorted_labels[partners]).all()
    assert len(rows.unique()) == len(rows)


@settings(max_examples=300, deadline=None)
@given(labels_lists.filter(bool), st.integers(0, 1000))
def test_all_rows_are_paired_unless_a_class_exceeds_half(labels, seed):
    _, pairs = draw(labels, seed)
    largest = max(labels.count(c) for c in labels)
    outside = len(labels) - largest
    if largest <= outside:
        assert pairs.shape[1] == len(labels)
    else:
        assert pairs.shape[1] >= 2 * outside


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(2, 12), st.integers(0, 1000))
def test_balanced_batches_repeat_no_pair_of_classes(size, num_classes, seed):
    labels = [c for c in range(num_classes) for _ in range(size)]
    sorted_labels, pairs = draw(labels, seed)
    class_pairs = {tuple(pair) for pair in sorted_labels[pairs].T.tolist()}
    if size < num_classes:
        assert len(class_pairs) == len(labels)


def test_partner_is_r_plus_one_times_c_further_on():
    # Three classes of 2, laid out as 8, 3, 5, the second member of 3 before the first: positions
    # 4 5 | 1 0 | 2 3, and shifts by 2 and by 4.
    labels = torch.tensor([3, 3, 5, 5, 8, 8])
    pairs = class_distinct_pairs(labels, torch.tensor([1, 2, 0]), torch.tensor([4, 2, 1, 3, 0, 5]))
    assert pairs.T.tolist() == [[4, 1], [5, 3], [1, 2], [0, 5], [2, 4], [3, 0]]


def test_random_class_orders_bring_all_pairs_of_classes_together():
    labels = list(range(5))
    seen = set()
    for seed in range(200):
        seen |= {tuple(pair) for pair in draw(labels, seed)[1].T.tolist()}
    assert len(seen) == 5 * 4


def test_members_of_two_classes_meet_with_equal_chances():
    # A chi-squared test at 1 in 1,000: 3 classes of 4, 4 x 4 pairs for each ordered pair of them.
    labels, draws = [c for c in range(3) for _ in range(4)], 2000
    counts = torch.zeros(12, 12, dtype=torch.float64)
    for seed in range(draws):
        rows, partners = draw(labels, seed)[1]
        counts[rows, partners] += 1
    sorted_labels = torch.tensor(labels)
    counts = counts[sorted_labels.unsqueeze(1) != sorted_labels]
    expected = 12 * draws / 96
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    assert len(counts) == 96
    assert statistic < stats.chi2.ppf(0.999, df=95)


def test_one_class_and_no_row_give_no_pair():
    one_class = torch.zeros(4, dtype=torch.int64)
    pairs = class_distinct_pairs(one_class, torch.tensor([0]), torch.arange(4))
    assert pairs.shape == (2, 0)
    empty = torch.empty(0, dtype=torch.int64)
    assert class_distinct_pairs(empty, empty, empty).shape == (2, 0)


def draw_sharing(labels, seed):
    sorted_labels = torch.tensor(labels, dtype=torch.int64).sort().values
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(2**62, (len(labels),), generator=generator)
    return sorted_labels, class_sharing_pairs(sorted_labels, draws)


@settings(max_examples=300, deadline=None)
@given(labels_lists, st.integers(0, 1000))
def test_each_row_that_is_not_alone_meets_another_of_its_class(labels, seed):
    sorted_labels, (rows, partners) = draw_sharing(labels, seed)
    assert torch.equal(sorted_labels[rows], sorted_labels[partners])
    assert (rows != partners).all()
    not_alone = [row for row, y in enumerate(sorted_labels.tolist()) if labels.count(y) > 1]
    assert rows.tolist() == not_alone


def test_partner_in_the_class_is_draw_plus_one_further_on():
    pairs = class_sharing_pairs(torch.tensor([3, 5, 5, 5, 5]), torch.tensor([7, 0, 1, 2, 3]))
    assert pairs.T.tolist() == [[1, 2], [2, 4], [3, 2], [4, 1]]


def test_all_other_rows_of_the_class_are_met_equally_often():
    counts = torch.zeros(5, 5)
    for seed in range(2000):
        rows, partners = draw_sharing([0] * 5, seed)[1]
        counts[rows, partners] += 1
    expected = 500 * (1 - torch.eye(5))
    assert (counts - expected).abs().max() < 100


def draw_matching(labels, seed):
    sorted_labels = torch.tensor(labels, dtype=torch.int64).sort().values
    members = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return sorted_labels, class_matching_pairs(sorted_labels, members)


@settings(max_examples=300, deadline=None)
@given(labels_lists, st.integers(0, 1000))
def test_members_of_a_class_are_matched_but_for_an_odd_one(labels, seed):
    sorted_labels, (rows, partners) = draw_matching(labels, seed)
    assert torch.equal(sorted_labels[rows], sorted_labels[partners])
    assert (rows != partners).all()
    not_alone = [row for row, y in enumerate(sorted_labels.tolist()) if labels.count(y) > 1]
    assert rows.sort().values.tolist() == not_alone
    partner = dict(zip(rows.tolist(), partners.tolist(), strict=True))
    unmatched = [int(sorted_labels[row]) for row in partner if partner[partner[row]] != row]
    odd = [y for y in sorted(set(labels)) if labels.count(y) % 2 == 1 and labels.count(y) > 1]
    assert sorted(unmatched) == odd


def test_neighbours_in_the_drawn_order_are_matched():
    members = torch.tensor([5, 3, 0, 2, 4, 1])
    pairs = class_matching_pairs(torch.tensor([3, 5, 5, 5, 5, 5]), members)
    assert pairs.T.tolist() == [[5, 3], [3, 5], [2, 4], [4, 2], [1, 4]]


def test_all_other_rows_of_the_class_are_matched_equally_often():
    counts = torch.zeros(6, 6)
    for seed in range(2000):
        rows, partners = draw_matching([0] * 6, seed)[1]
        counts[rows, partners] += 1
    expected = 400 * (1 - torch.eye(6))
    assert (counts - expected).abs().max() < 90
