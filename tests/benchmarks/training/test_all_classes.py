"""The last step: a variant that was chosen is trained on all classes."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.datasets import ImageClasses, ImageFiles
from benchmarks.datasets.joining import joined
from benchmarks.settings.described import load_splits
from benchmarks.settings.reading import load
from benchmarks.trained import load_model
from trained_run import write_photos, write_settings


@pytest.fixture
def config(tmp_path) -> Path:
    return write_settings(tmp_path, write_photos(tmp_path / "photos"))


def test_a_variant_is_trained_on_all_classes_and_loaded(config, tmp_path, capsys):
    main(["train", str(config), "--variant", "plain+ps", "--epochs", "2", "seeds=[3,4]"])
    folder = tmp_path / "runs" / "photos_all_classes" / "plain+ps" / "seed_3"
    assert (
        f"Trained on 40 images of 10 classes; nothing was tested. The weights are in {folder}"
        in (capsys.readouterr().out)
    )
    assert not (folder.parent / "seed_4").exists()
    assert (folder / "metrics.csv").read_text().strip() == ""
    weights = torch.load(folder / "best.pt", weights_only=True)
    assert weights["metric_loss"]["loss.proxies"].shape == (10, 5)
    photos = sorted((tmp_path / "photos").glob("*/*.png"))
    assert load_model(folder)(photos).shape == (40, 5)
    # Again nothing is trained, and another number of epochs is refused.
    before = (folder / "best.pt").stat().st_mtime_ns
    main(["train", str(config), "--variant", "plain+ps", "--epochs", "2", "seeds=[3]"])
    assert (folder / "best.pt").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="epochs: 2 there, 3 now"):
        main(["train", str(config), "--variant", "plain+ps", "--epochs", "3", "seeds=[3]"])
    with pytest.raises(SystemExit, match="comparison.yaml is missing"):
        main(["report", str(tmp_path / "runs" / "photos_all_classes")])


@pytest.mark.usefixtures("unrendered")
def test_the_command_that_a_comparison_proposes_trains_with_its_settings(config, tmp_path, capsys):
    given = ["batch_size=6", "seeds=[0, 1]", "name=tiny", "variants.untrained=null"]
    main(["run", str(config), "--variant", "plain", "epochs=1", *given])
    command = capsys.readouterr().out.rpartition("python -m benchmarks ")[2]
    main(shlex.split(command))
    folder = tmp_path / "runs" / "tiny_all_classes" / "plain" / "seed_0"
    assert "batch_size: 6" in (folder / "settings.yaml").read_text()


def test_a_variant_of_another_length_trains_as_long_as_is_asked(config, capsys):
    asked = ["--variant", "plain", "--epochs", "1", "variants.plain.epochs=7", "--dry-run"]
    main(["train", str(config), *asked])
    shown = capsys.readouterr().out
    assert "epochs: 1\n" in shown and "epochs: 7\n" not in shown


def test_a_dry_run_of_it_trains_nothing(config, tmp_path, capsys):
    main(["train", str(config), "--variant", "plain", "--epochs", "1", "--dry-run"])
    assert "splits:\n  train:\n    classes: 10\n" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_no_split_but_the_training_one_is_needed(config, tmp_path):
    alone = ["data.val=null", "data.test=null"]
    with pytest.raises(SystemExit, match="one of val and test is needed; the command `train`"):
        main(["compare", str(config), *alone])
    (run,) = load(config, [*alone, "data.all_classes=true"], ["plain"]).runs
    splits = load_splits(run.data)
    assert len(splits.train.class_names) == 5 and splits.val is splits.test is None


def test_classes_of_all_splits_are_joined_by_their_names(config):
    (run,) = load(config, (), ["plain"]).runs
    apart = load_splits(run.data)
    (run,) = load(config, ["data.all_classes=true"], ["plain"]).runs
    together = load_splits(run.data).train
    of_class = {
        (together.class_names[label], image.sum().item())
        for image, label in zip(together.images, together.labels, strict=True)
    }
    for split in (apart.train, apart.val, apart.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert (split.class_names[label], image.sum().item()) in of_class
    assert len(together) == 40 and len(together.class_names) == 10


def test_files_are_joined_and_other_mixtures_refused():
    def of(images) -> ImageClasses:
        return ImageClasses(images, torch.zeros(len(images), dtype=torch.int64), ["a"])

    files = joined([of(ImageFiles(["1", "2"])), of(ImageFiles(["3"]))])
    assert files.images.paths == ("1", "2", "3") and files.class_names == ("a",)
    small, large = of(torch.zeros(1, 1, 2, 2)), of(torch.zeros(1, 1, 3, 3))
    for other in (large, files):
        with pytest.raises(ValueError, match="all held in memory, with one shape, or all read"):
            joined([small, other])


# ---------------------------------------------------------------- --dry-run


def test_a_dry_run_shows_settings_where_no_data_are(config, capsys):
    with pytest.raises(SystemExit, match="data.root is not given"):
        main(["compare", str(config), "--dry-run", "data.root=???"])
    assert "batch_size: 8" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="There is no folder nowhere"):
        main(["compare", str(config), "--dry-run", "data.root=nowhere"])
    assert "batch_size: 8" in capsys.readouterr().out


def test_it_ends_quietly_when_nobody_reads_on(config):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "benchmarks", "compare", str(config), "--dry-run"]
    with os.fdopen(writing, "w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 141 and not done.stderr


def test_a_closed_pipe_of_another_process_is_told(config, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__._check", Mock(side_effect=BrokenPipeError("a worker")))
    with pytest.raises(SystemExit, match="error: a worker"):
        main(["compare", str(config), "--dry-run"])


def test_a_dry_run_names_what_cannot_be_read_in_all_splits(config, tmp_path):
    datasets = vars(load_splits(load(config).runs[0].data))
    lost = {name: f"{datasets[name].class_names[0]}/0.png" for name in ("val", "test")}
    for file in lost.values():
        (tmp_path / "photos" / file).write_bytes(b"")
    with pytest.raises(SystemExit, match="data.val, data.test: 2 of 40 images") as error:
        main(["compare", str(config), "--dry-run"])
    lines = str(error.value).splitlines()[1:]
    assert [file in line for file, line in zip(lost.values(), lines, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sampler={MPerClassSampler: {m: 1}}"], "batch_size: 8 are more images than m = 1 of"),
        (["device=cuda:99"], "device: 'cuda:99' cannot be used"),
        (["model.embedder.LinearEmbedder.embedding_size=4"], "expected 5, the `embedding_size`"),
    ],
)
def test_a_dry_run_finds_what_a_comparison_would_refuse(settings, message, config, capsys):
    with pytest.raises(SystemExit, match=message):
        main(["compare", str(config), "--dry-run", *settings])
    assert "splits:\n  train:\n    classes: 5\n" in capsys.readouterr().out
    assert not (config.parent / "runs").exists()


def test_a_dry_run_finds_runs_with_other_settings(config, tmp_path):
    main(["train", str(config), "--variant", "plain", "--epochs", "1"])
    folder = tmp_path / "runs" / "photos_all_classes"
    comparison = load(config)
    assert replace(comparison, folder=folder).folder == folder
    with pytest.raises(SystemExit, match="data.all_classes: true there, false now"):
        main(["compare", str(config), "--dry-run", "name=photos_all_classes"])
