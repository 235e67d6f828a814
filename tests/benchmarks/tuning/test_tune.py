"""A whole search: budgets, what is tried, what stays, what is written and what is refused."""

import re
import shutil
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import __main__ as command_line
from benchmarks.settings.reading import load
from benchmarks.training import compare
from benchmarks.training.workers import Workers
from benchmarks.tuning import report, tune

SETTINGS = f"extends: {Path(__file__).parents[2] / 'patterns.yaml'}"
SETTINGS += """
data: {test: {few_glyphs.patterns: {split: none}}}  # Test classes cannot be read.
epochs: 3
parallel_runs: 1
variants:
  raw: {model: {trunk: {PixelTrunk: {}}, embedder: null}, epochs: 0}
  plain: {loss: {ProxyNCALoss: {softmax_scale: 9}}}
  plain+ps:
    loss:
      SynthesisLoss: {loss: {ProxyNCALoss: {softmax_scale: 9}}, augmenter: {ProxySynthesis: {}}}
tune:
  trials: 6
  repeats: 2
  search_seed: 2  # of which some trials are pruned
  ranges:
    loss.softmax_scale: {Float: {low: 1, high: 100, log: true}}
    optimizers.metric_loss.lr: {Float: {low: 0.001, high: 1, log: true}}
  variants:
    plain+ps: {ranges: {augmenter.mu: {Float: {low: 0.5, high: 1}}}}
"""
SEARCHED = ["loss.softmax_scale", "optimizers.metric_loss.lr"]
LR = "optimizers.metric_loss.AdamW.lr"
MAP = "mean_average_precision_at_r"


class InThisProcess:
    """Stands for the processes of a search, so that a test need not start any."""

    interrupt_at = None  # which task, counted from 0
    tasks = 0

    def __init__(self, count, splits, advance):
        self.splits, self.advance = splits, advance

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task, *arguments):
        future = Future()
        try:
            task(self.splits, self._advance, *arguments)
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)
        InThisProcess.tasks += 1
        return future

    def _advance(self, description):
        if InThisProcess.tasks == InThisProcess.interrupt_at and "epoch 2" in description:
            raise KeyboardInterrupt
        self.advance(description)


@pytest.fixture(autouse=True, scope="module")
def in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "Workers", InThisProcess)
        patch.setattr(compare, "Workers", InThisProcess)
        yield


def main(command, path, *overrides):
    command_line.main([command, str(path), "--import", "few_glyphs", *overrides])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A settings file whose search was run."""
    path = tmp_path_factory.mktemp("search") / "letters.yaml"
    path.write_text(SETTINGS + f"results: {path.parent / 'results'}\n")
    main("tune", path)
    return path


@pytest.fixture(autouse=True)
def undrawn(config, monkeypatch):
    """The picture of that search is drawn, and no other, to save time."""
    monkeypatch.setattr(report.pictures, "draw", lambda *_: None)


@pytest.fixture
def copied(config, tmp_path):
    """That search again, to be changed; what to add to the command."""
    shutil.copytree(folder_of(config), tmp_path / "letters_tuning")
    return f"results={tmp_path}"


def folder_of(config) -> Path:
    return config.parent / "results" / "letters_tuning"


def trials(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "trials.csv")


def times(folder) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*/metrics.csv")}


def test_each_variant_has_the_same_number_of_trials_and_the_first_is_as_given(config):
    table = trials(folder_of(config))
    assert table.groupby("variant").size().to_dict() == {"raw": 1, "plain": 6, "plain+ps": 6}
    first = table[table["number"].eq(0)].set_index("variant")
    for variant in ("plain", "plain+ps"):
        assert first.loc[variant, SEARCHED].tolist() == [9, 0.01]
    assert first.loc["plain+ps", "augmenter.mu"] == 1
    assert table.loc[table["variant"].eq("plain"), "augmenter.mu"].isna().all()
    searched = table[table["variant"].ne("raw")]
    assert searched["loss.softmax_scale"].between(1, 100).all()
    assert searched.groupby("variant")["loss.softmax_scale"].nunique().eq(6).all()
    # What both search is the same in both, as long as nothing was learnt of it.
    one, other = (
        table[table["variant"].eq(name)][SEARCHED].values for name in ("plain", "plain+ps")
    )
    np.testing.assert_array_equal(one, other)


def test_trials_differ_in_what_is_searched_alone_and_never_see_test_classes(config):
    for variant in ("plain", "plain+ps"):
        for row in trials(folder_of(config)).query("variant == @variant").itertuples():
            folder = folder_of(config) / variant / f"trial_{row.number:03}" / "seed_0"
            settings = yaml.safe_load((folder / "settings.yaml").read_text())
            assert settings["seed"] == 0 and settings["data"]["test"] is None
            assert settings["optimizers"]["trunk"] == {"AdamW": {"lr": 3e-3}}
            metrics = pd.read_csv(folder / "metrics.csv")
            assert metrics["split"].eq("val").all()
            assert not list(folder.glob("*.pt"))


def test_values_are_those_of_the_best_epoch_on_validation_classes(config):
    for row in trials(folder_of(config)).itertuples():
        folder = folder_of(config) / row.variant / f"trial_{row.number:03}" / "seed_0"
        metrics = pd.read_csv(folder / "metrics.csv")
        assert row.mean_average_precision_at_r == pytest.approx(metrics[MAP].max())
        assert metrics.loc[metrics[MAP].idxmax(), "epoch"] == row.epoch
        whole = metrics["epoch"].max() == (0 if row.variant == "raw" else 3)
        assert row.state == ("finished" if whole else "pruned")
    assert "pruned" in set(trials(folder_of(config))["state"])


def test_compare_runs_the_best_of_each_variant_as_it_was_run(config, tmp_path):
    table = trials(folder_of(config)).query("state == 'finished'")
    best = table.loc[table.groupby("variant")[MAP].idxmax()].set_index("variant")
    path = folder_of(config) / "best.yaml"
    comparison = load(path, imports=["few_glyphs"])
    assert [run.variant for run in comparison.variants] == ["raw", "plain", "plain+ps"]
    assert comparison.folder == config.parent / "results" / "letters_best"
    _, plain, ps = comparison.variants
    assert plain.loss["ProxyNCALoss"]["softmax_scale"] == best.loc["plain", SEARCHED[0]]
    assert (
        ps.loss["SynthesisLoss"]["loss"]["ProxyNCALoss"]["softmax_scale"]
        == best.loc["plain+ps", SEARCHED[0]]
    )
    assert ps.optimizers.metric_loss["AdamW"]["lr"] == best.loc["plain+ps", SEARCHED[1]]
    # Validation is that of the trial: nothing else is different.
    main("compare", path, "data.test=null", "seeds=[0]", f"results={tmp_path}")
    runs = pd.read_csv(tmp_path / "letters_best" / "results.csv").set_index("variant")
    for variant in ("plain", "plain+ps"):
        assert runs.loc[variant, MAP] == pytest.approx(best.loc[variant, MAP], abs=1e-12)


def test_what_is_finished_is_not_run_again(config):
    before = times(folder_of(config))
    table = trials(folder_of(config))
    main("tune", config)
    assert times(folder_of(config)) == before
    pd.testing.assert_frame_equal(trials(folder_of(config)), table)


def test_an_interrupted_search_goes_on_to_the_same_trials(config, tmp_path, monkeypatch):
    command = ["tune", config, f"results={tmp_path}", "tune.trials=3", "tune.repeats=0"]
    monkeypatch.setattr(InThisProcess, "tasks", 0)
    monkeypatch.setattr(InThisProcess, "interrupt_at", 4)
    with pytest.raises(SystemExit, match="Stopped. The same command goes on"):
        main(*command)
    folder = tmp_path / "letters_tuning"
    before = times(folder)
    assert len(before) == 4
    (checkpoint,) = folder.rglob("checkpoint.pt")
    # As by a process that was killed while it wrote.
    with (folder / "study.log").open("a") as journal:
        journal.write('{"op_co')
    monkeypatch.setattr(InThisProcess, "interrupt_at", None)
    main(*command)
    assert before.items() <= times(folder).items() and not checkpoint.exists()
    same = [name for name in trials(folder) if name != "seconds"]
    whole = trials(folder_of(config)).query("number < 3").reset_index(drop=True)
    pd.testing.assert_frame_equal(trials(folder)[same], whole[same])


def test_more_trials_go_on_and_fewer_take_the_first(copied, config, tmp_path):
    folder = tmp_path / "letters_tuning"
    before, table = times(folder), trials(folder)
    main("tune", config, copied, "tune.trials=7", "tune.repeats=0")
    assert before.items() <= times(folder).items()
    assert trials(folder).groupby("variant").size().to_dict() == {
        **{"raw": 1, "plain": 7, "plain+ps": 7}
    }
    main("tune", config, copied, "tune.repeats=0")
    pd.testing.assert_frame_equal(trials(folder), table)
    page = (folder / "summary.md").read_text()
    assert "Without two repeats (tune.repeats) nobody knows which trials are equal." in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs=4", "of plain, plain.ps:\n  epochs: 3 there, 4 now\nDelete"),
        (
            "tune.seeds=[1]",
            r"of raw, plain, plain.ps:\n  tune.seeds: \[0\] there, \[1\] now\nDelete",
        ),
        (
            "tune.ranges={loss.softmax_scale: {Float: {high: 50}}}",
            "of plain, plain.ps:\n"
            "  tune.ranges.loss.ProxyNCALoss.softmax_scale.high: 100 there, 50 now\n",
        ),
    ],
)
def test_a_search_with_other_settings_is_refused_with_the_difference(change, message, config):
    before = times(folder_of(config))
    with pytest.raises(SystemExit) as caught:
        main("tune", config, change)
    assert re.search("holds trials with other settings, " + message, str(caught.value)), (
        caught.value
    )
    assert times(folder_of(config)) == before


def test_a_trial_that_cannot_be_trained_counts_and_is_named(config, tmp_path, capsys):
    # The last of these trials diverges.
    options = ["tune.search_seed=3", "tune.trials=4", "tune.repeats=0", "variants.raw=null"]
    options += ["variants.plain+ps=null", "tune.variants.plain+ps=null"]
    main("tune", config, *options, f"results={tmp_path}")
    folder = tmp_path / "letters_tuning"
    table = trials(folder).query("variant == 'plain'")
    assert table["state"].tolist() == ["finished"] * 3 + ["failed"]
    assert "not finite" in table["reason"][3]
    for text in ((folder / "summary.md").read_text(), capsys.readouterr().out):
        assert "Trials that failed:\n\n- plain, trial 3: the embeddings of" in text
        assert "4, 1 failed" in text
    before = times(folder)
    main("tune", config, *options, f"results={tmp_path}")
    assert times(folder) == before and (folder / "plain" / "trial_003" / "error.txt").exists()


def test_a_trial_that_failed_otherwise_is_run_again(config, tmp_path, capsys):
    fails = f"{{few_glyphs.FailingOnce: {{once: {tmp_path / 'once'}, softmax_scale: 9}}}}"
    options = ["tune.trials=1", "tune.repeats=0", f"results={tmp_path}", "variants.raw=null"]
    options.append(f"variants.plain.loss={fails}")
    with pytest.raises(SystemExit, match="error: 1 trials failed: plain, trial 0. error.txt in"):
        main("tune", config, *options)
    folder = tmp_path / "letters_tuning"
    assert "ZeroDivisionError: in the middle" in capsys.readouterr().out
    assert "in the middle" in (folder / "plain" / "trial_000" / "error.txt").read_text()
    main("tune", config, *options)
    assert trials(folder)["state"].eq("finished").all()
    assert not list(folder.rglob("error.txt"))


def test_the_page_says_what_is_equal_within_which_noise(config):
    page = (folder_of(config) / "summary.md").read_text()
    table = trials(folder_of(config)).query("state == 'finished'")
    noise = float(re.search(r"Noise: ([\d.]+) points", page)[1])
    for variant in ("plain", "plain+ps"):
        values = 100 * table.loc[table["variant"].eq(variant), MAP]
        cells = next(line for line in page.splitlines() if line.startswith(f"| {variant} "))
        equal, of = map(int, re.search(r"(\d+) of (\d+) +\|$", cells).groups())
        assert of == len(values)
        assert (values >= values.max() - noise + 0.06).sum() <= equal
        assert equal <= (values >= values.max() - noise - 0.06).sum()
    assert "| raw       | nothing to search" in page
    assert "`loss.SynthesisLoss.augmenter.ProxySynthesis.mu`" in page
    assert (folder_of(config) / "trials.png").stat().st_size > 10_000


def test_a_dry_run_says_what_is_searched_and_leaves_nothing(config, tmp_path, capsys):
    main("tune", config, "--dry-run", f"results={tmp_path}")
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["results"] == str(tmp_path / "letters_tuning")
    assert tree["tune"]["trials"] == 6
    assert tree["tune"]["variants"]["plain"][LR] == {
        **{"range": "Float", "low": 0.001, "high": 1, "log": True}
    }
    assert tree["variants"]["plain"]["data"]["test"] is None
    assert tree["splits"].keys() == {"train", "val"}
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tune=null", "tune: the file does not say what to search. Add ranges, such as `tune: "),
        ("tune.trials=0", "tune.trials: expected at least 1 but got 0."),
        ("tune.trails=3", "tune.trails: unknown setting: did you mean trials?"),
        (
            "tune.seeds=[0,0]",
            r"tune.seeds: expected different non-negative integers but got \[0, 0\]",
        ),
        ("tune.seeds=[[0]]", r"tune.seeds: .* integers but got \[\[0\]\]"),
        ("tune.ranges=null", "tune.ranges"),
        ("data.val=null", "data: one of val and test is needed|data.val: tuning chooses on valid"),
        (
            "tune.ranges={loss.softmx_scale: {Float: {low: 1, high: 2}}}",
            "tune.ranges.loss.softmx_scale: no variant has such a setting: did you mean "
            ".*loss.softmax_scale",
        ),
        (
            "tune.variants.plain.ranges={augmenter.mu: {Float: {low: 0, high: 1}}}",
            "tune.variants.plain.ranges.augmenter.mu: no variant has such a setting",
        ),
        ("tune.ranges={epochs: {Int: {low: 1, high: 9}}}", "tune.ranges.epochs: no variant has"),
        (
            "tune.variants.plian.ranges={augmenter.mu: {Float: {low: 0, high: 1}}}",
            "tune.variants.plian: no variant of this name: did you mean .*plain",
        ),
        (
            "tune.ranges={lr: {Float: {low: 0, high: 1}}}",
            "variant plain: lr may be optimizers.trunk.AdamW.lr, .*: write more of its path.",
        ),
        (
            "tune.ranges={metric_loss.AdamW.lr: {Float: {low: 0, high: 1}}}",
            "optimizers.metric_loss.lr and metric_loss.AdamW.lr mean one setting, optimizers",
        ),
        (
            "tune.ranges={loss.softmax_scale: {Float: {low: 10}}}",
            r"variant plain: loss.softmax_scale is 9, which is not in Float\(low=10, high=100, ",
        ),
        (
            "tune.ranges={loss.softmax_scale: {Float: {low: 200}}}",
            "ranges.loss.softmax_scale.Float: the range is empty: low 200 is not below high 100",
        ),
        (
            "tune.ranges={loss.softmax_scale: {Gaussian: {low: 10}}}",
            "tune.ranges.loss.softmax_scale: unknown type of range 'Gaussian': ",
        ),
    ],
)
def test_a_wrong_search_is_one_line_that_names_file_and_setting(change, message, config):
    with pytest.raises(SystemExit) as caught:
        main("tune", config, change)
    assert str(caught.value).startswith("error: ")
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_what_cannot_be_made_is_told_before_the_search_and_can_be_mended(config, tmp_path):
    with pytest.raises(SystemExit, match="variant plain: optimizers.metric_loss.AdamW: .*-1"):
        main(
            "tune",
            config,
            f"results={tmp_path}",
            "tune.ranges={optimizers.metric_loss.lr: {Float: {low: -1, log: false}}}",
            "optimizers.metric_loss.AdamW.lr=-1",
        )
    assert not (tmp_path / "letters_tuning" / "search.yaml").exists()


def test_no_range_is_no_search(config):
    with pytest.raises(SystemExit, match="tune.ranges: at least one is needed."):
        main(
            *("tune", config, "tune.variants.plain+ps=null"),
            "tune.ranges={loss.softmax_scale: null, optimizers.metric_loss.lr: null}",
        )


def test_several_seeds_make_one_trial(config, tmp_path):
    options = ["tune.seeds=[3,5]", "tune.trials=1", "tune.repeats=1", "variants.raw=null"]
    main("tune", config, *options, f"results={tmp_path}")
    folder = tmp_path / "letters_tuning"
    for row in trials(folder).itertuples():
        paths = [folder / row.variant / f"trial_{row.number:03}" / f"seed_{s}" for s in (3, 5)]
        best = [pd.read_csv(path / "metrics.csv")[MAP].max() for path in paths]
        assert row.mean_average_precision_at_r == pytest.approx(np.mean(best))
    # The best ones have another seed, which did not choose them.
    assert len(list(folder.glob("*/*/seed_6/metrics.csv"))) == 2


def test_a_process_of_its_own_finds_the_same(config, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "Workers", Workers)
    options = ["variants.raw=null", "tune.trials=2", "tune.repeats=0"]
    main("tune", config, *options, f"results={tmp_path}")
    same = ["variant", "number", "state", *SEARCHED, MAP, "epoch"]
    one = trials(folder_of(config)).query("number < 2 and variant != 'raw'")[same]
    pd.testing.assert_frame_equal(
        trials(tmp_path / "letters_tuning")[same].reset_index(drop=True), one.reset_index(drop=True)
    )
