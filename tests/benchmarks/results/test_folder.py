"""Results folders whose files are damaged: a message names the file and what to do."""

import random
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from benchmarks import files
from benchmarks.__main__ import main
from benchmarks.datasets.splits import Splits
from benchmarks.errors import SettingsError
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.reporting.report import report
from benchmarks.results import paths, reading, writing
from benchmarks.results.changes import check_settings
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Run
from benchmarks.training.run import execute
from few_glyphs import patterns

SETTINGS = """
data:
  train: {few_glyphs.patterns: {split: train}}
  test: {few_glyphs.patterns: {split: test}}
model:
  trunk: {ConvTrunk: {widths: [4]}}
  embedder: {LinearEmbedder: {in_features: 4, embedding_size: 8}}
embedding_size: 8
sampler: {RandomSampler: {}}
batch_size: 16
epochs: 2
iterations_per_epoch: 1
optimizers: {trunk: &adam {AdamW: {}}, embedder: *adam, metric_loss: *adam}
seeds: [0]
variants:
  plain: {loss: {ProxyNCALoss: {}}}
  plain+ps: {loss: {SynthesisLoss: {loss: {ProxyNCALoss: {}}, augmenter: {ProxySynthesis: {}}}}}
"""
SPLITS = Splits(patterns("train"), None, patterns("test"))
VALIDATED = replace(SPLITS, val=patterns("val"))
RUN = "plain+ps/seed_0"
BYTES = {
    "empty": b"",
    "binary": random.Random(0).randbytes(300),
    "of another kind": b"- [1, {a: 2}]\n3\n",
    "a list": b"[1, 2]\n",
    "a number": b"3\n",
    "a mapping": b"data: 3\n",
    "unclosed": b"data: {variant: [",
}


def write_settings(folder: Path) -> Path:
    path = folder / "letters.yaml"
    path.write_text(SETTINGS + f"results: {folder / 'runs'}\n")
    return path


@pytest.fixture
def written(tmp_path) -> Path:
    return write_settings(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a comparison whose runs are finished."""
    comparison = load(write_settings(tmp_path_factory.mktemp("whole")), imports=["few_glyphs"])
    folder = comparison.folder
    for run in comparison.runs:
        execute(run, SPLITS, paths.run_folder(folder, run))
    writing.write_comparison(folder, comparison.baselines)
    writing.write_splits(folder, SPLITS.counts(), [])
    report(folder)
    return folder


@pytest.fixture
def finished(whole, written, monkeypatch) -> Path:
    """A copy of it, of which nothing is drawn."""
    monkeypatch.setattr("benchmarks.reporting.plots.save", lambda figures, folder: [])
    monkeypatch.setattr("benchmarks.reporting.pictures.save", lambda figures, folder: [])
    return shutil.copytree(whole, written.parent / "runs" / "letters")


FILES = {
    "comparison.yaml": "The command that made it writes it again",
    "splits.yaml": "Delete it: reports then leave these counts out",
    f"{RUN}/settings.yaml": "Delete the folder .*seed_0: the command that made it makes it again",
    f"{RUN}/versions.yaml": "Delete it: reports then leave these versions out",
    f"{RUN}/metrics.csv": "Delete it: the command that made it makes this run again",
    f"{RUN}/view.pt": "Delete it: reports then leave out the pictures",
}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, damage) for file in FILES for damage in BYTES),
        *((file, "cut off") for file in FILES if not file.endswith(".yaml")),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(file, damage, finished):
    path = finished / file
    cut = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes((BYTES | {"cut off": cut})[damage])
    with pytest.raises(SettingsError, match=FILES[file]) as caught:
        report(finished)
    assert str(caught.value).startswith(f"{path} is damaged")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("comparison.yaml", "baselines: {plain: [1], plain+ps: plain}"),
        ("comparison.yaml", "baselines: {plain: null, plain+ps: gone}"),
        ("comparison.yaml", "baselines: {2020-01-01: null}"),
        ("comparison.yaml", "baselines: [plain]"),
        ("splits.yaml", "train: {classes: [1], images: 3}"),
        ("splits.yaml", "train: {classes: 2, images: 2020-01-01}"),
        ("splits.yaml", "train: [1]"),
        ("splits.yaml", "overlaps: 3"),
        ("splits.yaml", "overlaps: [3]"),
        (f"{RUN}/settings.yaml", "{variant: a, data: [1]}"),
        (f"{RUN}/settings.yaml", "{variant: 3, data: {}}"),
        (f"{RUN}/versions.yaml", "[[1]]"),
    ],
)
def test_a_file_damaged_by_hand_is_named_with_what_to_do(file, content, finished):
    (finished / file).write_text(content)
    with pytest.raises(SettingsError, match=FILES[file]) as caught:
        report(finished)
    assert str(caught.value).startswith(f"{finished / file} is damaged")


def test_a_finished_run_without_its_settings_is_named(finished, written):
    (finished / "plain" / "seed_0" / "settings.yaml").unlink()
    message = (
        r"plain/seed_0/settings\.yaml is damaged .*: .*No such file.* Delete the folder .*seed_0"
    )
    with pytest.raises(SettingsError, match=message):
        check_settings(finished, load(written, imports=["few_glyphs"]).variants)
    with pytest.raises(SettingsError, match=message):
        report(finished)


@pytest.mark.parametrize("splits", [None, "", "{overlaps: []}"])
def test_permitted_overlaps_are_told_whatever_became_of_the_splits(splits, finished):
    assert "looked at once" in report(finished)
    path = finished / "plain" / "seed_0" / "settings.yaml"
    path.write_text(path.read_text().replace("allow_overlap: false", "allow_overlap: true"))
    (finished / "splits.yaml").unlink()
    if splits is not None:
        (finished / "splits.yaml").write_text(splits or "{train: {classes: 3, images: 9}}")
    text = report(finished)
    assert "no figures of unseen classes: their settings permit splits to share classes" in text
    assert "looked at once" not in text


def test_dates_and_lists_among_saved_settings_are_told_as_changes(finished, written):
    path = finished / RUN / "settings.yaml"
    tree = yaml.safe_load(path.read_text())
    changed = tree | {"epochs": date(2020, 1, 1), "model": [date(2020, 1, 2)]}
    path.write_text(yaml.safe_dump(changed))
    report(finished)
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(written), "--import", "few_glyphs"])
    assert 'epochs: "2020-01-01" there, 2 now' in str(caught.value)
    assert 'model: ["2020-01-02"] there, ' in str(caught.value)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("batch", 3),
        ("batch", (torch.zeros(3, 2), torch.zeros(2), torch.zeros(1, 2))),
        ("class_names", None),
        ("synthetic", torch.zeros(3)),
        ("synthetic", {"embeddings": 3}),
        ("cosines", [1]),
        ("cosines", (torch.zeros(3), "none")),
    ],
)
@pytest.mark.parametrize("run", ["plain/seed_0", RUN])
def test_a_view_that_cannot_be_drawn_is_named(run, part, value, finished):
    path = finished / run / "view.pt"
    files.save(files.load(path) | {part: value}, path)
    with pytest.raises(SettingsError, match=FILES[f"{RUN}/view.pt"]) as caught:
        report(finished)
    assert str(caught.value).startswith(f"{path} is damaged")


@pytest.mark.parametrize("file", ["splits.yaml", f"{RUN}/versions.yaml", f"{RUN}/view.pt"])
def test_what_may_be_deleted_is_left_out(file, finished):
    (finished / file).unlink()
    report(finished)


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
def test_damaged_settings_stop_a_command_before_it_runs_anything(content, finished, written):
    path = finished / RUN / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"error: .*settings\.yaml is damaged .*Delete the folder"):
        main(["compare", str(written), "--import", "few_glyphs"])


@pytest.mark.parametrize(
    "column", ["seconds", "mean_average_precision_at_r", "epoch", "variant", "split"]
)
def test_metrics_without_a_column_are_damaged(column, finished):
    path = finished / RUN / "metrics.csv"
    pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
    message = rf"metrics\.csv is damaged.*no column {column}\. Delete it"
    with pytest.raises(SettingsError, match=message):
        report(finished)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("seed", "first", "could not convert string to float: 'first'.*"),
        ("precision_at_1", "high", "could not convert string to float: 'high'.*"),
        ("variant", "plain", r"its variant is expected to be plain\+ps but is plain"),
        ("variant", "gone", r"its variant is expected to be plain\+ps but is gone"),
        ("seed", 1, "its seed is expected to be 0 but is 1.0"),
        ("seed", 0.5, "its seed is expected to be 0 but is 0.5"),
        ("split", "train", "its split is expected to be val or test but is train"),
        ("epoch", 1.5, "its epochs are no numbers of epochs"),
        ("epoch", -1, "its epochs are no numbers of epochs"),
        ("epoch", "inf", "its epochs are no numbers of epochs"),
        ("mean_average_precision_at_r", 55, r"its figures are expected in \[0, 1\]"),
        ("recall_at_2", "-inf", r"its figures are expected in \[0, 1\]"),
    ],
)
def test_metrics_with_wrong_values_or_of_another_run_are_damaged(column, value, reason, finished):
    path = finished / RUN / "metrics.csv"
    pd.read_csv(path).assign(**{column: value}).to_csv(path, index=False)
    with pytest.raises(SettingsError, match=rf"metrics\.csv is damaged.*: {reason}\. Delete it"):
        report(finished)


def test_a_variant_may_be_called_like_a_missing_value(tmp_path):
    folder = tmp_path / "nan" / "seed_3"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(
        f"variant,seed,split,epoch,{MAIN_METRIC},seconds\nnan,3,test,2,,1.5\n"
    )
    writing.write_comparison(tmp_path, {"nan": None})
    (row,) = reading.read_metrics(tmp_path).itertuples()
    assert (row.variant, row.seed, row.epoch) == ("nan", 3, 2)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Run, Path]:
    """A run of three epochs that was stopped after the second, and its checkpoint."""
    folder = tmp_path_factory.mktemp("stopped")
    validated = ["data.val={few_glyphs.patterns: {split: val}}", "epochs=3"]
    scheduled = ["schedulers.trunk={StepLR: {step_size: 1}}"]
    comparison = load(write_settings(folder), [*validated, *scheduled], imports=["few_glyphs"])

    def stop(epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    run = comparison.runs[0]
    with pytest.raises(KeyboardInterrupt):
        execute(run, VALIDATED, folder / "run", stop)
    return run, folder / "run" / "checkpoint.pt"


def assert_damaged(run: Run, path: Path, reason: str = "") -> None:
    with pytest.raises(SettingsError) as caught:
        execute(run, VALIDATED, path.parent)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged or not of this runner: ")
    assert message.endswith("Delete it: this run then starts again.")
    assert reason in message


@pytest.mark.parametrize("damage", [*BYTES, "cut off"])
def test_a_damaged_checkpoint_is_named_and_once_deleted_the_run_starts_again(
    damage, stopped, tmp_path
):
    run, checkpoint = stopped
    content = checkpoint.read_bytes()
    path = tmp_path / checkpoint.name
    path.write_bytes((BYTES | {"cut off": content[: len(content) // 2]})[damage])
    assert_damaged(run, path)
    path.unlink()
    assert len(execute(run, VALIDATED, tmp_path)) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 1}, "it is of plain, seed 0"),
        ({"variant": "other"}, "it is of plain, seed 0"),
        ({"batch_size": 8}, "it is of other settings: batch_size: 16 there, 8 now"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changes, reason, stopped, tmp_path):
    run, checkpoint = stopped
    shutil.copy(checkpoint, tmp_path)
    assert_damaged(replace(run, **changes), tmp_path / checkpoint.name, reason)


def test_a_checkpoint_whose_optimizer_does_not_fit_is_damaged(stopped, tmp_path):
    run, checkpoint = stopped
    state = files.load(checkpoint)
    state["optimizers"]["trunk_optimizer"]["state"][0]["exp_avg"] = torch.zeros(3, 3)
    files.save(state, tmp_path / checkpoint.name)
    assert_damaged(run, tmp_path / checkpoint.name, "shape")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, "it has no modules"),
        ([], "it is expected to be a dict but is a list"),
        (torch.zeros(3), "it is expected to be a dict but is a Tensor"),
        (3, "it is expected to be a dict but is a int"),
        (None, "it is expected to be a dict but is a NoneType"),
    ],
)
def test_a_file_of_torch_that_is_no_checkpoint_is_damaged(state, reason, stopped, tmp_path):
    files.save(state, tmp_path / "checkpoint.pt")
    assert_damaged(stopped[0], tmp_path / "checkpoint.pt", reason)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("optimizers", None, "optimizers is expected to be a dict"),
        ("optimizers.trunk_optimizer", {}, "optimizers.trunk_optimizer has no state"),
        ("optimizers.trunk_optimizer.param_groups", [], "loaded state dict has a different"),
        ("schedulers", {}, "schedulers has no trunk_scheduler_by_iteration"),
        ("schedulers.trunk_scheduler_by_iteration", {}, "by_iteration has no step_size"),
        ("modules.trunk", {}, "modules.trunk has no layers.0.weight"),
        ("modules.embedder.weight", torch.zeros(3, 3), "size mismatch for weight"),
        ("modules.embedder.weight", "w", "modules.embedder.weight is expected to be a Tensor"),
        ("best_modules.metric_loss", {}, "Missing key(s)"),
        ("best_modules.embedder.weight", torch.zeros(3, 3), "size mismatch for weight"),
        ("best_modules", {}, "'trunk'"),
        ("epoch", 0, "its epoch is expected in 1 .. 3 but is 0"),
        ("epoch", 4, "its epoch is expected in 1 .. 3 but is 4"),
        ("epoch", 1.0, "its epoch is expected in 1 .. 3 but is 1.0"),
        ("epoch", True, "its epoch is expected in 1 .. 3 but is True"),
        ("epoch", "2", "epoch is expected to be a int but is a str"),
        ("epoch", 3, "its history is expected of the epochs [1, 2, 3] but is of [1, 2]"),
        ("history", [], "its history is expected of the epochs [1, 2] but is of []"),
        ("history", [1, 2], "there is no column variant"),
        ("history", {}, "history is expected to be a list"),
        ("best_epoch", 3, "its best_epoch is expected among [1, 2] but is 3"),
        ("best_epoch", 0, "its best_epoch is expected among [1, 2] but is 0"),
        ("best_value", "high", "best_value is expected to be a float but is a str"),
        ("seconds", -1.0, "its seconds are -1.0"),
        ("seconds", float("nan"), "its seconds are nan"),
        ("records", {"loss_histories": 3}, "its records of loss_histories are of another kind"),
    ],
)
def test_a_checkpoint_with_a_wrong_part_is_damaged(place, value, reason, stopped, tmp_path):
    run, checkpoint = stopped
    state = files.load(checkpoint)
    *groups, last = place.split(".")
    part = state
    for group in groups:
        part = part[group]
    part[last] = value
    files.save(state, tmp_path / checkpoint.name)
    assert_damaged(run, tmp_path / checkpoint.name, reason)


def test_a_folder_that_nobody_can_write_to_is_told(written, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=rf"^error: .*{tmp_path / 'file'}"):
        main(["compare", str(written), "--import", "few_glyphs", f"results={tmp_path / 'file'}"])


def test_versions_of_a_run_that_goes_on_are_kept(written, tmp_path):
    run = load(written, imports=["few_glyphs"]).runs[0]
    writing.start(tmp_path, run)
    writing.start(tmp_path, run)
    assert len(yaml.safe_load((tmp_path / "versions.yaml").read_text())) == 1
    (tmp_path / "versions.yaml").write_text("- 3\n")
    with pytest.raises(SettingsError, match=r"versions\.yaml is damaged"):
        writing.start(tmp_path, run)


@pytest.mark.parametrize("root", ["train", "val"])
def test_words_that_are_like_the_folder_of_the_data_are_no_paths(root):
    def settings(split: str) -> dict:
        return {"data": {"root": split, "train": {"Photos": {"root": split, "split": split}}}}

    train = reading.comparable(settings(root))["data"]["train"]
    assert train == {"Photos": {"root": "${data.root}", "split": root}}
