"""Statistics over seeds, and what is said about them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy import stats

from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.reporting import plots
from benchmarks.reporting.report import figures
from benchmarks.reporting.significance import visible_difference
from benchmarks.reporting.summary import final_rows, half_width, note, over_folds, summarize

RNG = np.random.default_rng(0)


def runs_of(split: str = "test", **means: list[float]) -> pd.DataFrame:
    rows = [
        {"variant": variant, "seed": seed, "split": split, "epoch": 3, "precision_at_1": value}
        | {MAIN_METRIC: value / 2, "seconds": 2.0}
        for variant, values in means.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_means_deviations_and_student_intervals_in_percent():
    runs = runs_of(z=[0.5, 0.6, 0.7], a=[0.25, 0.25, 0.25])
    summary = summarize(runs, {"z": None, "a": None})
    assert summary["variant"].tolist() == ["z", "a"], "in the order of the runs"
    assert summary["precision_at_1"].tolist() == pytest.approx([60, 25])
    assert summary["precision_at_1_sd"].tolist() == pytest.approx([10, 0])
    low, high = stats.t.interval(0.95, df=2, loc=60, scale=stats.sem([50, 60, 70]))
    assert summary["precision_at_1_interval"].tolist() == pytest.approx([(high - low) / 2, 0])
    assert summary[MAIN_METRIC].tolist() == pytest.approx([30, 12.5])
    assert summary["verdict"].tolist() == ["", ""]


@pytest.mark.parametrize("shift", [-0.05, 0.0, 0.05])
def test_paired_differences_are_those_of_a_paired_t_test(shift):
    plain = RNG.uniform(0.3, 0.7, size=10)
    other = plain + shift + 0.01 * RNG.standard_normal(10)
    summary = summarize(runs_of(plain=plain, other=other), {"plain": None, "other": "plain"})
    row = summary.iloc[1]
    test = stats.ttest_rel(100 * other, 100 * plain)
    low, high = test.confidence_interval(0.95)
    difference, width = row["precision_at_1_difference"], row["precision_at_1_difference_interval"]
    assert (difference - width, difference + width) == pytest.approx((low, high))
    words = {True: "no difference seen", False: "better" if shift > 0 else "worse"}
    assert row["verdict"] == words[test.pvalue > 0.05]
    assert row["pairs"] == 10


def test_only_common_seeds_are_paired():
    runs = pd.concat([runs_of(plain=[0.5, 0.6, 0.7]), runs_of(other=[0.9, 0.51, 0.62, 0.71])])
    runs = runs[~(runs["variant"].eq("other") & runs["seed"].eq(0))]
    row = summarize(runs, {"plain": None, "other": "plain"}).iloc[1]
    assert row["pairs"] == 2
    assert row["precision_at_1_difference"] == pytest.approx((-9 + -8) / 2)
    assert row["seeds"] == 3


def test_one_pair_has_no_verdict():
    row = summarize(runs_of(plain=[0.5], other=[0.6]), {"plain": None, "other": "plain"}).iloc[1]
    assert np.isnan(half_width([0.5]))
    assert np.isnan(half_width([0.5, float("nan")]))
    assert not np.signbit([half_width([value] * 10) for value in np.linspace(0, 1, 99)]).any()
    assert row["verdict"] == ""
    assert row["precision_at_1_difference"] == pytest.approx(10)


def test_many_comparisons_are_said_to_be_many():
    values = {f"v{i}": RNG.uniform(size=4) for i in range(9)}
    baselines = {"v0": None} | {f"v{i}": "v0" for i in range(1, 9)}
    both = pd.concat([history(), runs_of(a=[1, 2])])
    text = note(summarize(runs_of(**values), baselines), both)
    assert "8 comparisons were made" in text
    assert "0.4 of them" in text
    assert "These differ after Holm's correction for their number: none." in text
    assert "Test classes, looked at once, with the models of the best validation epoch." in text
    plain = runs_of(a=[1, 2])
    text = note(summarize(plain, {"a": None}), plain)
    assert "comparison" not in text
    assert "Test classes, looked at once, with the models of the last epoch." in text
    text = note(summarize(plain, {"a": None}), plain.assign(split="val"))
    assert "too high as a result" in text


def test_the_correction_for_many_comparisons_and_the_power_are_told():
    plain = RNG.uniform(size=10)
    spread = 0.01 * RNG.standard_normal((3, 10))
    # Its p-value is 0.03: below 0.05, and above it times two.
    nearly = spread[0] - spread[0].mean() + 2.5 * stats.sem(spread[0])
    values = {"plain": plain, "nearly": plain + nearly}
    values |= {"none": plain + spread[1], "much": plain + spread[2] + 0.1}
    baselines = {"plain": None, "nearly": "plain", "none": "plain", "much": "plain"}
    summary = summarize(runs_of(**values), baselines)
    rows = summary.set_index("variant")
    assert rows["verdict"]["nearly"] == "better"
    p_values = [stats.ttest_rel(values[name], plain).pvalue for name in rows.index[1:]]
    assert rows["p_value"].tolist()[1:] == pytest.approx(p_values)
    assert rows["p_value_holm"]["much"] == pytest.approx(3 * p_values[2])
    assert rows["visible_difference"]["none"] == pytest.approx(
        visible_difference(50 * spread[1].std(ddof=1), 10)
    )
    text = note(summary, runs_of(**values))
    assert "These differ after Holm's correction for their number: much." in text
    least, most = rows["visible_difference"].min(), rows["visible_difference"].max()
    assert f"a true difference of {least:.1f} to {most:.1f} points is seen with" in text
    pair = summarize(runs_of(a=plain, b=plain + spread[1]), {"a": None, "b": "a"})
    assert "Holm" not in note(pair, runs_of(a=plain)), "a single comparison needs no correction"


@pytest.mark.parametrize("pairs", [1, 2, 4, 5])
def test_few_pairs_are_said_to_have_wide_intervals(pairs):
    runs = runs_of(plain=RNG.uniform(size=6), other=RNG.uniform(size=pairs))
    text = note(summarize(runs, {"plain": None, "other": "plain"}), runs)
    assert ("fewer than 5 pairs of seeds" in text) == (pairs < 5)
    assert ("seeds='[0,1,2,3,4]'" in text) == (pairs < 5)
    alone = runs_of(plain=[0.5])
    assert "pairs" not in note(summarize(alone, {"plain": None}), alone), "nothing is compared"


def test_runs_without_a_figure_are_named_and_not_counted():
    runs = runs_of(plain=[0.5, np.nan, 0.7], other=[0.6, 0.6, 0.6], lost=[np.nan, np.nan])
    final = final_rows(runs)
    assert len(final) == len(runs)
    summary = summarize(final, {"plain": None, "other": "plain", "lost": "plain"})
    assert summary["seeds"].tolist() == [2, 3, 0]
    assert summary["pairs"].tolist() == [0, 2, 0]
    alone = summarize(final_rows(runs_of(plain=[0.5, 0.7])), {"plain": None}).iloc[0]
    for column in ("precision_at_1", "precision_at_1_interval", MAIN_METRIC):
        assert summary.iloc[0][column] == pytest.approx(alone[column])
    assert summary["verdict"].tolist() == ["", "no difference seen", ""]
    text = note(summary, runs)
    lost = "plain, seed 1 (test); lost, seed 0 (test); lost, seed 1 (test)."
    assert f"not among the seeds: {lost}" in text
    assert figures(summary, [MAIN_METRIC])["MAP@R [%]"].tolist()[2] == ""


def test_a_seed_without_a_figure_in_one_fold_is_no_mean_over_folds():
    folds = [runs_of(a=[0.5, 0.6]), runs_of(a=[0.7, np.nan])]
    assert over_folds(folds)["seed"].tolist() == [0]


def test_figures_of_seen_classes_are_not_called_unseen():
    runs = runs_of(a=[0.5, 0.6])
    shared = ["train and test share 3 classes (such as b)"]
    text = note(summarize(runs, {"a": None}), runs, shared)
    assert "looked at once" not in text
    assert f"no figures of unseen classes: {shared[0]} (data.allow_overlap)" in text
    assert "no figures of unseen" in note(
        summarize(runs, {"a": None}), runs.assign(split="val"), shared
    )


def history() -> pd.DataFrame:
    """Two runs: of one the second epoch is the best, the other was not tested."""
    columns = ["variant", "seed", "split", "epoch", MAIN_METRIC, "seconds"]
    rows = [
        *[("a", 0, "val", 1, 0.2, 1.0), ("a", 0, "val", 2, 0.4, 2.0), ("a", 0, "val", 3, 0.3, 3.0)],
        ("a", 0, "test", 2, 0.1, 4.0),
        *[("b", 0, "val", 1, 0.5, 1.0), ("b", 0, "val", 2, 0.4, 5.0)],
    ]
    return pd.DataFrame(rows, columns=columns)


def test_the_test_counts_and_without_it_the_best_validation():
    final = final_rows(history())
    assert final[["variant", "split", "epoch", MAIN_METRIC]].values.tolist() == [
        ["a", "test", 2, 0.1],
        ["b", "val", 1, 0.5],
    ]
    assert final["seconds"].tolist() == [4.0, 5.0]


def test_the_table_has_a_line_for_each_variant_and_the_verdict_second():
    runs = runs_of(z=[0.5, 0.6], a=[0.25, 0.25])
    summary = summarize(runs, {"z": None, "a": "z"})
    table = figures(summary, [MAIN_METRIC, "precision_at_1", "r_precision"])
    assert table.columns.tolist() == [
        *("variant", "against its baseline", "MAP@R difference"),
        *("MAP@R [%]", "P@1 [%]", "seeds"),
    ]
    assert table.iloc[0].tolist() == ["z", "", "", "27.5 ± 31.8", "55.0 ± 63.5", 2]
    assert table.iloc[1, 1:3].tolist() == ["no difference seen", "-15.0 ± 31.8"]
    assert figures(summary, [], with_seconds=True)["seconds"].tolist() == [2.0, 2.0]
    alone = summarize(runs_of(z=[0.5]), {"z": None})
    assert figures(alone, [MAIN_METRIC]).columns.tolist() == ["variant", "MAP@R [%]", "seeds"]


def drawn(monkeypatch, *arguments):
    """The pictures of a comparison by the names of their files, not saved."""
    monkeypatch.setattr(plots, "save", lambda pictures, folder: pictures)
    return plots.draw(*arguments, folder=None)


def by_epoch(**values: list[float]) -> pd.DataFrame:
    runs = runs_of("val", **values)
    return pd.concat([runs.assign(epoch=1), runs.assign(epoch=2)])


def test_pictures_are_drawn_where_there_is_something_to_show(tmp_path):
    values = {"plain": [0.5, 0.6], "other": [0.7, 0.81]}
    baselines = {"plain": None, "other": "plain"}
    tested = runs_of(**values)
    history = pd.concat([by_epoch(**values), tested])
    paths = plots.draw(history, summarize(tested, baselines), tmp_path)
    assert [path.name for path in paths] == list(plots.CAPTIONS)
    for path in paths:
        assert imread(path)[..., :3].std() > 0.02, "not blank"
    alone = runs_of(plain=[0.5])
    assert plots.draw(alone, summarize(alone, baselines), tmp_path / "none") == []


def test_each_variant_has_a_panel_and_differences_are_those_of_the_same_seed(monkeypatch):
    runs = by_epoch(**{name: [0.5, 0.6] for name in "abcd"}, **{"a_b+e": [0.7, 0.9], "f": [0.1]})
    baselines = dict.fromkeys("abcd") | {"a_b+e": "a", "f": "untrained"}
    pictures = drawn(monkeypatch, runs, summarize(runs, baselines))
    titles = [panel.get_title() for panel in pictures["curves.png"].axes]
    assert titles == [*"abcd", "f"], "without an empty panel"
    (panel,) = pictures["curves_differences.png"].axes
    assert panel.get_title() == "a b + e"
    mean, *seeds, _ = [list(line.get_ydata()) for line in panel.lines]
    assert mean == pytest.approx([12.5, 12.5])
    assert seeds == [pytest.approx([10, 10]), pytest.approx([15, 15])]


@pytest.mark.parametrize("values", [[0.5], [0.4, 0.6], [0.4, 0.5, 0.6]])
def test_a_curve_has_a_band_from_three_seeds_on_and_a_line_for_each_of_two(monkeypatch, values):
    runs = by_epoch(a=values)
    pictures = drawn(monkeypatch, runs, summarize(runs, {"a": None}))
    (panel,) = pictures["curves.png"].axes
    mean, *others = [list(line.get_ydata()) for line in panel.lines]
    assert mean == pytest.approx([25, 25])
    assert others == ([[50 * value] * 2 for value in values] if len(values) == 2 else [])
    if len(values) < 3:
        assert not panel.collections
    else:
        (band,) = panel.collections
        low, high = band.get_datalim(panel.transData).intervaly
        assert (high - low) / 2 == pytest.approx(half_width([20, 25, 30]))


def test_differences_are_named_in_words_with_a_baseline_that_the_name_does_not_say():
    runs = runs_of(**{"plain_loss": [0.5, 0.6], "plain_loss+ps": [0.6, 0.6], "other": [0.6, 0.8]})
    baselines = {"plain_loss": None} | dict.fromkeys(["plain_loss+ps", "other"], "plain_loss")
    axes = plots.draw_differences(summarize(runs, baselines).iloc[1:]).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["plain loss + ps", "other (against plain loss)"]
