"""The report on what the methods gain: what is called seen, and what remains after correction."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from benchmarks.evaluation.metrics import MAIN_METRIC
from docs.extensions import gains, regimes, untuned_scales


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two sets: one method is far better, one hardly, one far worse than the picture is wide."""
    rng = np.random.default_rng(0)
    shifts = {
        "norm_softmax+ps": 0.03,
        "norm_softmax+see": 0.0024,  # p = 0.03
        "norm_softmax+mixup": 0.0,
        "norm_softmax+memvir": -0.2,
    }
    for name in ("glyphs", "emoji"):
        plain = rng.uniform(0.3, 0.4, size=10)
        spread = rng.normal(0, 0.003, size=(len(shifts), 10))
        spread -= spread.mean(axis=1, keepdims=True)
        spread *= 0.003 / spread.std(axis=1, ddof=1, keepdims=True)
        runs = {"norm_softmax": plain}
        runs |= {
            variant: plain + shift + noise
            for (variant, shift), noise in zip(shifts.items(), spread, strict=True)
        }
        rows = [
            {"variant": variant, "seed": seed, MAIN_METRIC: value}
            | {"precision_at_1": 2 * value, "seconds": 1.0}
            for variant, values in runs.items()
            for seed, value in enumerate(values)
        ]
        folder = tmp_path / gains.study_of(name)
        folder.mkdir()
        pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    monkeypatch.setattr(gains, "RESULTS", tmp_path)
    gains.cells.cache_clear()
    yield
    gains.cells.cache_clear()


def test_differences_are_corrected_over_all_sets_together(results):
    cells = gains.cells()
    assert set(cells.index.get_level_values("set")) == {"glyphs", "emoji"}
    assert cells["p_value"].count() == 8
    least = cells["p_value"].min()
    assert cells["p_value_holm"].min() == pytest.approx(min(1, 8 * least), abs=0)


def test_the_table_marks_what_is_seen_and_what_remains(results):
    lines = {}
    for line in gains.matrix().splitlines():  # Of a method the first, that of norm-softmax.
        lines.setdefault(line.split("|")[1].strip(), line)
    assert lines["+ Proxy Synthesis"].count("** *") == 2
    assert lines["+ MemVir"].count("**-20.0 ") == 2
    assert lines["+ SEE"].count("**+0.2 ± 0.2**") == 2
    assert "** *" not in lines["+ SEE"], "of eight comparisons that is too little"
    assert "*" not in lines["+ Embedding Mixup"]
    assert lines["**Proxy-Anchor**, tuned"].count("left out") == 2


def test_the_table_of_another_metric_has_no_stars(results):
    (line,) = (
        line
        for line in gains.matrix("precision_at_1").splitlines()
        if line.startswith("| + MemVir") and "-40.0" in line
    )
    assert line.count("**-40.0 ") == 2
    assert "** *" not in line


def test_the_picture_fills_what_remains_and_points_at_what_lies_beyond(results):
    for panel in gains.draw().axes:
        points = {
            float(line.get_xdata()[0]): line for line in panel.lines if len(line.get_xdata()) == 1
        }
        (better,) = (line for x, line in points.items() if x > 2)
        assert better.get_markerfacecolor() == better.get_color() != "white"
        same = points[min(points, key=abs)]
        assert same.get_markerfacecolor() == "white"
        beyond = points[-gains.WIDEST]
        assert beyond.get_marker() == "<"
        assert "-20.0" in [text.get_text() for text in panel.texts]


@pytest.mark.parametrize("spread", [0.2, 0.5, 2.0])
def test_so_many_seeds_show_the_aim_and_one_less_does_not(spread):
    seeds = gains.seeds_needed(spread)
    assert gains.visible_difference(spread, seeds) <= gains.AIM
    assert seeds == 2 or gains.visible_difference(spread, seeds - 1) > gains.AIM


@pytest.fixture
def symmetrical(tmp_path, monkeypatch):
    """One set, on which Contrastive gains and ends below MultiSimilarity."""
    means = {"contrastive": 0.2, "multi_similarity": 0.4}
    means |= {"contrastive+symmetrical": 0.3, "multi_similarity+symmetrical": 0.41}
    publish(tmp_path / gains.study_of("emoji"), means)
    (tmp_path / "methods_emoji").mkdir()
    monkeypatch.setattr(gains, "RESULTS", tmp_path)
    gains.cells.cache_clear()
    yield tmp_path / "methods_emoji" / "trials.csv"
    gains.cells.cache_clear()


def publish(folder, means, seeds=10):
    """Write the runs of a study, whose seeds differ by little."""
    rng = np.random.default_rng(0)
    rows = [
        {"variant": variant, "seed": seed, MAIN_METRIC: mean + rng.normal(0, 2e-4), "seconds": 1.0}
        for variant, mean in means.items()
        for seed in range(seeds)
    ]
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)


def test_the_best_plain_loss_on_validation_classes_is_the_one_to_beat(symmetrical):
    on_validation = {"contrastive": 0.2, "multi_similarity": 0.3}
    on_validation |= {"contrastive+symmetrical": 0.6, "multi_similarity+symmetrical": 0.5}
    trials = [
        {"variant": variant, "state": "finished", MAIN_METRIC: mean}
        for variant, mean in on_validation.items()
    ]
    trials.append({"variant": "contrastive", "state": "pruned", MAIN_METRIC: 0.9})
    pd.DataFrame(trials).to_csv(symmetrical, index=False)
    _, plain, contrastive, multi_similarity, *others = cells_of(gains.best().splitlines()[-1])
    assert plain.startswith("MultiSimilarity, 40.0")
    assert contrastive.startswith("**-10.0 ±") and contrastive.endswith("** *, chosen")
    assert multi_similarity.startswith("**+1.0 ±") and multi_similarity.endswith("** *")
    assert others == 2 * ["not run"]


@pytest.mark.parametrize("state, chosen", [("finished", True), ("pruned", False)])
def test_the_combination_is_chosen_by_a_finished_trial(symmetrical, state, chosen):
    publish(gains.RESULTS / "combinations_emoji_tuned", {gains.TOGETHER: 0.43})
    on_validation = {"multi_similarity": 0.3, "multi_similarity+symmetrical": 0.5}
    trials = [
        {"variant": variant, "state": "finished", MAIN_METRIC: mean}
        for variant, mean in on_validation.items()
    ]
    pd.DataFrame(trials).to_csv(symmetrical, index=False)
    (gains.RESULTS / "combinations_emoji").mkdir()
    trial = [{"variant": gains.TOGETHER, "state": state, MAIN_METRIC: 0.6}]
    pd.DataFrame(trial).to_csv(gains.RESULTS / "combinations_emoji" / "trials.csv", index=False)
    *_, together = cells_of(gains.best().splitlines()[-1])
    assert together.startswith("**+3.0 ±") and together.endswith("chosen") == chosen


def test_trials_are_paired_by_the_settings_of_the_loss(symmetrical):
    def trial(variant, first, second, value, state="finished"):
        names = gains.SEARCHED[variant.partition("+")[0]]
        return dict(zip(names, (first, second), strict=True)) | {
            "variant": variant,
            "state": state,
            MAIN_METRIC: value,
        }

    trials = [
        trial("contrastive", 0.1, 0.5, 0.3),
        trial("contrastive+symmetrical", 0.1, 0.5, 0.4),
        trial("contrastive", 0.2, 0.5, 0.5),
        trial("contrastive+symmetrical", 0.2, 0.5, 0.4),
        trial("contrastive+symmetrical", 0.3, 0.5, 0.9),  # alone
        trial("contrastive", 0.0, 0.5, 0.1, "pruned"),
        trial("contrastive+symmetrical", 0.0, 0.5, 0.9),
        trial("multi_similarity", 2, 50, 0.3),
        trial("multi_similarity+symmetrical", 2, 50, 0.2),
    ]
    pd.DataFrame(trials).to_csv(symmetrical, index=False)
    line = gains.trials().splitlines()[-1]
    assert [cell.strip() for cell in line.split("|")[1:4]] == ["Emoji", "1 of 2", "0 of 1"]


def cells_of(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_a_miner_is_compared_with_the_plain_loss_and_with_the_method(symmetrical):
    means = {"contrastive": 0.2, "contrastive+symmetrical": 0.25}
    means |= {"contrastive_miner": 0.26, "contrastive_miner+symmetrical": 0.28}
    publish(gains.RESULTS / "miner_emoji_tuned", means)
    (line,) = gains.miner().splitlines()[2:]
    _, plain, *compared = cells_of(line)
    assert plain.startswith("20.0 ±")
    shown = ["+5.0", "+6.0", "+8.0", "-1.0", "+2.0"]
    assert [cell.strip("*").split(" ")[0] for cell in compared] == shown
    assert all(cell.endswith("** *") for cell in compared)


def test_both_methods_are_compared_with_none_and_with_each_alone(symmetrical):
    means = {"multi_similarity": 0.4, "multi_similarity+symmetrical": 0.41}
    means |= {"multi_similarity+symmetrical_das": 0.43}
    publish(gains.RESULTS / "combinations_emoji_tuned", means)
    shutil.rmtree(gains.RESULTS / gains.study_of("emoji"))
    alone = {"multi_similarity": 0.4, "multi_similarity+das": 0.44}
    publish(gains.RESULTS / gains.study_of("emoji"), alone)
    (line,) = gains.together().splitlines()[2:]
    link, value, plain, alone, das = cells_of(line)
    assert "Emoji" in link and value.startswith("43.0 ±")
    assert plain.startswith("**+3.0 ±") and alone.startswith("**+2.0 ±")
    assert das.startswith("**-1.0 ±") and das.endswith("** *")


def test_later_seeds_confirm_what_the_first_ten_suggest(symmetrical):
    publish_more_seeds("seeds_fonts_contrastive", "das", early=0.05, later=0.01)
    publish_more_seeds("seeds_omniglot_full_contrastive", "mixup", early=0.05, later=0.0)
    publish_more_seeds("seeds_grocery_contrastive", "symmetrical", early=0.05, later=0.0054)
    lines = {}
    for line in gains.more_seeds().splitlines()[2:]:
        name, method, *others = cells_of(line)
        lines[method.removeprefix("Contrastive + ")] = (name, *others)
    name, first, later, every, nearest, seeds, _ = lines["DAS"]
    assert "FontGlyphs" in name and seeds == "30"
    assert first.startswith("**+5.0 ±") and first.endswith("**")
    assert later.startswith("**+1.0 ±") and later.endswith("** *")
    assert every.startswith("**+2.3 ±") and every.endswith("**")
    assert nearest.startswith("**+4.7 ±")
    _, first, later, *_ = lines["Embedding Mixup"]
    assert first.startswith("**+5.0 ±") and "*" not in later
    _, _, later, *_ = lines["Symmetrical Synthesis"]
    assert later.startswith("**+0.5 ±") and later.endswith("**"), "p = 0.03: not corrected"


def publish_more_seeds(study, method, early, later):
    """Write thirty seeds of Contrastive, with a method that gains more in the first ten."""
    spread = np.resize([-0.01, 0.01], 10), np.resize([-0.01, 0.01], 20)
    gain = np.concatenate([early + spread[0], later + spread[1]])
    values = {"contrastive": np.full(30, 0.2), f"contrastive+{method}": 0.2 + gain}
    rows = [
        {"variant": variant, "seed": seed, MAIN_METRIC: value}
        | {"precision_at_1": 2 * value, "seconds": 1}
        for variant, of_seeds in values.items()
        for seed, value in enumerate(of_seeds, start=1)
    ]
    (gains.RESULTS / study).mkdir()
    pd.DataFrame(rows).to_csv(gains.RESULTS / study / "results.csv", index=False)


def test_studies_that_disagree_about_a_run_are_told(symmetrical):
    publish(gains.RESULTS / "combinations_emoji_tuned", {"multi_similarity": 0.3})
    with pytest.raises(ValueError, match="emoji: the studies disagree on .*multi_similarity"):
        gains.together()


def test_the_mean_over_scales_is_taken_for_each_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(gains, "RESULTS", tmp_path)
    added = dict(zip(untuned_scales.SCALES, (0.06, -0.02, 0, 0, 0, 0.03, 0), strict=True))
    means = {f"scale_{scale}": 0.01 * scale for scale in untuned_scales.SCALES}
    means |= {f"scale_{scale}+ps": 0.01 * scale + more for scale, more in added.items()}
    publish(tmp_path / "scales_glyphs", means)
    plain, mixed = (cells_of(line) for line in untuned_scales.scales().splitlines()[2:])
    assert plain[1].startswith("1.0 ±") and plain[-1].startswith("26.9 ±")
    assert mixed[1].startswith("**+6.0 ±") and mixed[2].startswith("**-2.0 ±")
    assert mixed[1].endswith("** *")
    assert mixed[-1].startswith("**+1.0 ±") and not mixed[-1].endswith("** *")
    (panel,) = untuned_scales.draw().axes
    heights = [line.get_ydata() for line in panel.lines if len(line.get_xdata()) == 7]
    assert len(heights) == 2
    np.testing.assert_allclose(
        heights[1] - heights[0], [*(100 * x for x in added.values())], atol=0.1
    )


def test_regimes_are_corrected_among_themselves(symmetrical):
    plain = {"norm_softmax": 0.2, "contrastive": 0.2}
    small = {"norm_softmax+ps": 0.18, "contrastive+symmetrical": 0.3}
    publish(gains.RESULTS / "regimes_50_classes_tuned", plain | small, seeds=5)
    publish(gains.RESULTS / "new_vendors_emoji", {"contrastive": 0.2} | small, seeds=5)
    (line,) = regimes.TABLES["gains_regimes"]().splitlines()[2:]
    name, _, lost, _, gained = cells_of(line)
    assert "50 classes" in name and "-2.0 ±" in lost and "+10.0 ±" in gained
    of_report, of_vendors = regimes.TABLES["gains_robustness"]().splitlines()[2:]
    assert cells_of(of_report)[1:3] == cells_of(of_vendors)[1:3] == ["not run", ""]
    found = regimes.cells(regimes.ROBUSTNESS)["p_value_holm"]
    of_report = gains.cells()["p_value_holm"].dropna()
    assert sorted(found.dropna().xs(gains.study_of("emoji"), level="set")) == sorted(of_report)
    own = regimes.cells(regimes.TRAINING).xs("regimes_50_classes_tuned", level="set")
    assert own["p_value_holm"].min() == pytest.approx(2 * own["p_value"].min(), abs=0)
    panels = regimes.draw().axes
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["50 classes"]


def test_make_repeats_every_study_of_the_report():
    text = (gains.ROOT / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^REGIMES_fonts\s*:= (.*)$", text, re.MULTILINE)[1].split()
    repeated = set()
    for line in re.findall(r"^(?:SEARCHED|COMPARED)_\w+\s*:= (.*)$", text, re.MULTILINE):
        for study in re.sub(r"\$\(REGIMES_fonts:%=(.*?)\)", r"\1", line).split():
            repeated |= {study.replace("%", name) for name in names}
    studies = gains.ROOT / "benchmarks" / "configs" / "studies"
    assert {name for name in repeated if not (studies / f"{name}.yaml").exists()} == set()
    page = (gains.ROOT / "docs" / "gains.md").read_text()
    assert set(re.findall(r"\(results/(\w+)/", page)) <= repeated
