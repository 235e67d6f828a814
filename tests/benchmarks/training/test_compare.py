"""A whole comparison, from a settings file to the table, in processes of its own."""

import re
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import few_glyphs
from benchmarks import __main__ as command_line
from benchmarks import files
from benchmarks.errors import KilledRunError, SettingsError
from benchmarks.reporting import plots
from benchmarks.results import writing
from benchmarks.results.locks import claimed
from benchmarks.results.reading import read_metrics, read_settings
from benchmarks.training import compare, workers

SETTINGS = f"extends: {Path(__file__).parents[2] / 'patterns.yaml'}"
SETTINGS += """
data: {workers: 2}
transforms: {train: [{RandomAffine: {}}]}
epochs: 2
parallel_runs: 2
seeds: [0, 1]
variants:
  plain: {loss: {ProxyNCALoss: {}}}
  plain+ps: {loss: {SynthesisLoss: {loss: {ProxyNCALoss: {}}, augmenter: {ProxySynthesis: {}}}}}
"""
UNREADABLE = "data.train={few_glyphs.patterns: {split: none}}"
COUNTS = {"classes": 8, "images": 64}  # of each split
# But for the pictures of the comparison that all tests share.
pytestmark = pytest.mark.usefixtures("unrendered")


def main(arguments: list[str]) -> None:
    """Run a command, which names the module with the data sets of these tests."""
    permitted = [] if arguments[0] == "report" else ["--import", "few_glyphs"]
    command_line.main([*arguments, *permitted])


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A settings file whose comparison was run."""
    folder = tmp_path_factory.mktemp("comparison")
    path = folder / "letters.yaml"
    path.write_text(SETTINGS + f"results: {folder / 'results'}\n")
    main(["compare", str(path)])
    return path


def folder_of(config: Path) -> Path:
    return config.parent / "results" / "letters"


def times(config: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder_of(config).glob("*/*/metrics.csv")}


def test_a_variant_that_another_process_runs_is_refused(config):
    before = times(config)
    with claimed(folder_of(config), ["plain+ps"]):
        main(["compare", str(config)])  # All of it is there already.
        with pytest.raises(SystemExit, match=r"plain\+ps: another process is running"):
            main(["compare", str(config), "seeds=[0,1,2]"])
    assert times(config) == before


def test_each_variant_ran_with_each_seed(config):
    runs = pd.read_csv(folder_of(config) / "results.csv")
    assert runs[["variant", "seed"]].values.tolist() == [
        *[["plain", 0], ["plain", 1]],
        *[["plain+ps", 0], ["plain+ps", 1]],
    ]
    for _, run in runs.iterrows():
        path = folder_of(config) / run.variant / f"seed_{run.seed}" / "metrics.csv"
        history = pd.read_csv(path)
        assert history["split"].tolist() == ["val", "val", "test"]
        assert history.loc[2, "precision_at_1"] == run["precision_at_1"]
    # Variants differ, and so do seeds.
    assert runs["mean_average_precision_at_r"].nunique() == 4


def test_the_summary_has_a_row_for_each_variant(config):
    runs = pd.read_csv(folder_of(config) / "results.csv")
    summary = pd.read_csv(folder_of(config) / "summary.csv")
    assert summary["variant"].tolist() == ["plain", "plain+ps"]
    assert summary["seeds"].tolist() == [2, 2]
    assert summary["baseline"].fillna("").tolist() == ["", "plain"]
    means = runs.groupby("variant")["precision_at_1"].mean()
    np.testing.assert_allclose(summary["precision_at_1"], 100 * means)


def test_what_is_finished_is_not_run_again(config, capsys):
    before = times(config)
    main(["compare", str(config)])
    main(["run", str(config), "--variant", "plain", "--variant", "plain+ps", "seeds=[1]"])
    assert times(config) == before
    output = capsys.readouterr().out
    assert output.split()[0] == "variant"
    assert output.count("Results in") == 2
    assert "1 comparison was made" in output


def test_report_makes_everything_again_from_the_folder_alone(config, tmp_path, capsys):
    shutil.copytree(folder_of(config), tmp_path / "letters")
    made = {"results.csv", "summary.csv", "summary.md", *plots.CAPTIONS}
    made |= {"embeddings_plain+ps.png", "cosines_plain+ps.png"}
    made |= {"retrieval_plain.png", "retrieval_plain+ps.png"}
    for name in made:
        (tmp_path / "letters" / name).unlink()
    main(["report", str(tmp_path / "letters")])
    for name in ("results.csv", "summary.csv", "summary.md"):
        again = (tmp_path / "letters" / name).read_text()
        assert again == (folder_of(config) / name).read_text()
    assert made <= {path.name for path in (tmp_path / "letters").iterdir()}
    assert "plain+ps" in capsys.readouterr().out


def test_the_page_says_figures_settings_and_commit_together(config):
    page = (folder_of(config) / "summary.md").read_text()
    (versions,) = yaml.safe_load((folder_of(config) / "plain/seed_0/versions.yaml").read_text())
    assert f"commit {versions['commit']}" in page
    assert f"torch {versions['torch']}" in page
    assert "| plain+ps " in page
    assert page.startswith("# letters\n")
    header = page.split("\n")[2].replace(" ", "")
    assert header.startswith("|variant|againstitsbaseline|MAP@Rdifference|MAP@R[%]|P@1[%]|")
    common, differing = page.split("## Settings of each variant")
    assert "batch_size: 32" in common and "batch_size" not in differing
    assert "ProxySynthesis" in differing and "ProxySynthesis" not in common
    for name, caption in plots.CAPTIONS.items():
        assert f"{caption}\n\n![{caption}]({name})\n" in page
    assert "![cosines plain + ps](cosines_plain+ps.png)" in page
    assert "![retrieval plain + ps](retrieval_plain+ps.png)" in page


def test_changed_settings_are_refused_with_the_difference(config):
    before = times(config)
    for command in (["compare"], ["run", "--variant", "plain"]):
        with pytest.raises(SystemExit) as caught:
            main([*command, str(config), "batch_size=16", "seeds=[7]"])
        message = str(caught.value)
        assert message.startswith("error: ")
        assert "batch_size: 32 there, 16 now" in message
    assert times(config) == before


def test_what_another_command_has_run_meanwhile_is_not_run_again(config, tmp_path, monkeypatch):
    read_data, folder = compare.read_data, tmp_path / "letters"

    def meanwhile(comparison):
        shutil.copytree(folder_of(config), folder)
        return read_data(comparison)

    monkeypatch.setattr(compare, "read_data", meanwhile)
    command = ["compare", str(config), f"results={tmp_path}"]
    with pytest.raises(SystemExit, match="batch_size: 32 there, 16 now"):
        main([*command, "batch_size=16"])
    shutil.rmtree(folder)
    main(command)
    runs = {path.relative_to(folder): path for path in folder.glob("*/*/metrics.csv")}
    assert len(runs) == 4
    for name, path in runs.items():
        assert path.read_bytes() == (folder_of(config) / name).read_bytes()


def test_a_run_that_fails_is_named_the_others_are_reported_and_it_is_tried_again(
    config, tmp_path, capsys
):
    fails = f"variants.plain.loss={{few_glyphs.FailingOnce: {{once: {tmp_path / 'once'}}}}}"
    command = ["compare", str(config), f"results={tmp_path}", "seeds=[0]", "data.workers=0", fails]
    with pytest.raises(SystemExit, match="error: 1 of 2 runs failed: plain, seed 0. .*same comm"):
        main(command)
    folder = tmp_path / "letters"
    assert read_metrics(folder)["variant"].unique().tolist() == ["plain+ps"]
    for text in (capsys.readouterr().out, (folder / "summary.md").read_text()):
        assert "plain+ps" in text
        assert "- plain, seed 0: ZeroDivisionError: in the middle\n" in text
        assert "runs them again" in text and "delete the folders of these variants" in text
    whole = (folder / "plain" / "seed_0" / "error.txt").read_text()
    assert 'raise ZeroDivisionError("in the middle")' in whole

    main(command)
    assert "Runs that failed" not in capsys.readouterr().out
    assert set(read_metrics(folder)["variant"]) == {"plain", "plain+ps"}
    assert not list(tmp_path.rglob("error.txt"))


def test_where_every_run_fails_the_reasons_are_told(config, tmp_path):
    diverges = "variants.plain.optimizers.trunk={SGD: {lr: 1e30}}"
    command = ["run", str(config), "--variant", "plain", f"results={tmp_path}", "seeds=[4]"]
    command += ["data.workers=0"]
    message = "no run is finished yet.\n  plain, seed 4: the embeddings of 64 of 64 .*not finite"
    with pytest.raises(SystemExit, match=message) as caught:
        main([*command, diverges])
    assert "optimizers.*.lr" in str(caught.value)
    with pytest.raises(SystemExit, match=message):
        main(["report", str(tmp_path / "letters")])


def test_one_run_without_figures_does_not_hide_the_others(config, tmp_path, capsys):
    folder = shutil.copytree(folder_of(config), tmp_path / "letters")
    path = folder / "plain" / "seed_0" / "metrics.csv"
    table = pd.read_csv(path)
    table.loc[table["split"].eq("test"), "precision_at_1":"mean_average_precision_at_r"] = np.nan
    table.to_csv(path, index=False)
    main(["report", str(folder)])
    assert "nan" in capsys.readouterr().out
    assert "not among the seeds: plain, seed 0 (test)." in (folder / "summary.md").read_text()
    summary = pd.read_csv(folder / "summary.csv")
    assert summary["seeds"].tolist() == [1, 2]
    assert summary["pairs"].tolist() == [0, 1]
    assert summary["precision_at_1"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "data.test={few_glyphs.patterns: {split: none}}",
            "data.test.few_glyphs.patterns: .*'none'",
        ),
        ("optimizers.trunk.AdamW.lr=-1", "variant plain: optimizers.trunk.AdamW: .*-1"),
        (
            "variants.plain+ps.loss.SynthesisLoss.augmenter.ProxySynthesis.alpha=-1",
            "variant plain.ps: loss.SynthesisLoss.augmenter.ProxySynthesis: .*`alpha`.* -1",
        ),
        ("device=abacus", "device: expected a device of torch, .* but got 'abacus'"),
        ("batch_size=65", "variant plain: batch_size: 65 are more images than the 64 "),
        (
            "sampler={MPerClassSampler: {m: 3}}",
            "variant plain: batch_size: 32 are more images than m = 3 of each of the 8 training "
            "classes. Set batch_size to at most 24, sampler.MPerClassSampler.m higher",
        ),
        ("optimizers.metric_loss=null", "variant plain: optimizers.metric_loss is needed"),
    ],
)
def test_what_cannot_be_made_is_one_line_that_names_file_and_setting(
    change, message, config, tmp_path
):
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(config), f"results={tmp_path}", change])
    assert str(caught.value).startswith(f"error: {config}: ")
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "letters").exists()


def test_a_variant_whose_baseline_is_not_there_is_named(config, tmp_path, capsys):
    where = [f"results={tmp_path}", "--dry-run"]
    main(["compare", str(config), *where])
    assert "compared with nothing" not in capsys.readouterr().err
    main(["compare", str(config), "variants.plain=null", *where])
    assert (
        "plain+ps is compared with nothing: there is no variant 'plain'" in capsys.readouterr().err
    )


def test_a_dry_run_prints_the_resolved_settings_and_runs_nothing(config, tmp_path, capsys):
    main(["compare", str(config), "--dry-run", f"results={tmp_path}", "epochs=7"])
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["results"] == str(tmp_path / "letters")
    assert tree["seeds"] == [0, 1]
    assert list(tree["variants"]) == ["plain", "plain+ps"]
    assert tree["variants"]["plain+ps"]["baseline"] == "plain"
    assert tree["variants"]["plain"]["epochs"] == 7
    assert tree["variants"]["plain"]["schedulers"]["by"] == "iteration"
    assert tree["splits"] == {name: COUNTS for name in ("train", "val", "test")}
    assert tree["overlaps"] == []
    assert not any(tmp_path.iterdir())


def test_a_dry_run_without_its_data_prints_the_settings_and_then_the_error(config, capsys):
    with pytest.raises(SystemExit, match="data.train.few_glyphs.patterns: .*'none'"):
        main(["compare", str(config), "--dry-run", UNREADABLE])
    assert yaml.safe_load(capsys.readouterr().out)["seeds"] == [0, 1]


def test_what_comes_is_said_before_the_data_are_read(config, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["compare", str(config), f"results={tmp_path}", "parallel_runs=3", UNREADABLE])
    said = f"Runs: 4, finished: 0, processes: 3, results in {tmp_path / 'letters'}\n"
    assert capsys.readouterr().err == said
    main(["compare", str(config)])
    assert "Runs: 4, finished: 4, " in capsys.readouterr().err


def test_splits_that_share_classes_are_refused_unless_it_is_meant(config, tmp_path, capsys):
    shared = "data.test={few_glyphs.patterns: {split: train, num_classes: 3}}"
    command = ["run", str(config), "--variant", "plain", f"results={tmp_path}", "seeds=[0]", shared]
    command += ["data.workers=0"]
    for option in ([], ["--dry-run"]):
        with pytest.raises(SystemExit, match="data: train and test share 3 classes"):
            main([*command, *option])
    assert not (tmp_path / "letters").exists()
    capsys.readouterr()
    main([*command, "data.allow_overlap=true"])
    shown = capsys.readouterr().out
    page = (tmp_path / "letters" / "summary.md").read_text()
    for text in (shown, page):
        assert "no figures of unseen classes: train and test share 3 classes" in text
        assert "looked at once" not in text
    main([*command, "data.allow_overlap=true"])
    assert "train and test share" in capsys.readouterr().out


def test_an_older_comparison_of_seen_classes_goes_on_once_it_is_meant(config):
    main(["compare", str(config), "data.allow_overlap=true"])


def test_no_more_processes_read_ahead_than_there_are_cores(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "cores", lambda: 3)
    with pytest.raises(SystemExit):
        main(["compare", str(config), f"results={tmp_path}", "data.workers=10000", UNREADABLE])
    said = "data.workers: 10000 is more than the 3 cores: 3 read ahead.\n"
    assert said in capsys.readouterr().err
    # It does not count among the settings that must stay.
    main(["compare", str(config), "data.workers=0"])


def test_a_killed_process_takes_no_other_run_with_it(config, tmp_path, capsys):
    loss = f"{{at_call: 3, once: {tmp_path}/once, loss: {{ProxyNCALoss: {{}}}}}}"
    command = ["compare", str(config), f"results={tmp_path}", "seeds=[0]", "data.workers=0"]
    command += [f"variants.plain.loss={{few_glyphs.dying: {loss}}}"]
    with pytest.raises(SystemExit, match=r"1 of 2 runs failed: plain, seed 0\."):
        main(command)
    assert "plain, seed 0: KilledRunError: The process of this run was killed" in (
        capsys.readouterr().out
    )
    folder = tmp_path / "letters"
    assert read_metrics(folder)["variant"].unique().tolist() == ["plain+ps"]
    assert (folder / "summary.md").exists()
    main(command)
    assert read_metrics(folder)["variant"].unique().tolist() == ["plain", "plain+ps"]
    assert "runs that failed" not in capsys.readouterr().out.lower()


@pytest.mark.skipif(workers._context.get_start_method() == "spawn", reason="nothing is forked")
def test_a_process_is_forked_off_one_that_has_imported_what_each_run_does():
    told: list[str] = []
    with workers.Workers(1, None, told.append) as processes:
        for module in workers.NEEDED:
            processes.submit(few_glyphs.tell_if_imported, module).result()
    assert told == [f"{module}: True" for module in workers.NEEDED]


@pytest.mark.parametrize(
    ("of_the_job", "of_a_process"),
    [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)],
)
def test_a_job_that_ignores_the_keyboard_has_processes_that_do(
    of_the_job, of_a_process, monkeypatch
):
    monkeypatch.setattr(workers, "end_with_parent", lambda: None)
    for name in ("_splits", "_descriptions"):
        monkeypatch.setattr(workers, name, None, raising=False)
    before = signal.signal(signal.SIGINT, of_the_job)
    try:
        with warnings.catch_warnings():
            workers._start_worker(None, None)
        assert signal.getsignal(signal.SIGINT) is of_a_process
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_process_killed_before_its_run_has_started_hides_no_others(
    seeds, config, tmp_path, capsys
):
    folder = shutil.copytree(folder_of(config), tmp_path / "letters")
    for seed in seeds:
        shutil.rmtree(folder / "plain" / f"seed_{seed}")
        writing.write_failure(folder / "plain" / f"seed_{seed}", KilledRunError("killed"))
    main(["report", str(folder)])
    for text in (capsys.readouterr().out, (folder / "summary.md").read_text()):
        assert "- plain, seed 0: KilledRunError: killed\n" in text
        assert "plain+ps" in text


def test_a_process_killed_while_it_tells_of_an_epoch_blocks_no_other():
    """It leaves a lock that nobody opens again."""
    told: list[str] = []
    killed, other = (workers._Worker.of(None, told.append) for _ in range(2))
    with killed.descriptions._wlock:
        other.descriptions.put("plain, seed 0, done")
        other.shutdown()
    killed.shutdown()
    assert told == ["plain, seed 0, done"]


def test_results_that_cannot_be_written_are_one_line(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="file/letters: results cannot be written there: "):
        main(["compare", str(config), f"results={tmp_path}/file"])


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    full = tmp_path / "state.pt.unfinished"
    monkeypatch.setattr(files, "_own_name", lambda _: full)
    told = f"{tmp_path}: results cannot be written there: No space left on device. Make room"
    for write, content in ((files.save, {"a": torch.rand(9999)}), (files.write_text, "a")):
        full.symlink_to("/dev/full")
        with pytest.raises(SettingsError, match=told), writing.writable(tmp_path):
            write(content, tmp_path / "state.pt")


def test_errors_of_the_data_are_not_taken_for_those_of_the_results(tmp_path):
    with pytest.raises(FileNotFoundError), writing.writable(tmp_path / "runs"):
        (tmp_path / "data").read_bytes()


def test_the_page_counts_classes_and_images_where_they_were_written_down(config, tmp_path):
    line = "Images: train 64 of 8 classes, val 64 of 8 classes, test 64 of 8 classes."
    assert f"\n\n{line}\n\n" in (folder_of(config) / "summary.md").read_text()
    older = shutil.copytree(folder_of(config), tmp_path / "letters")
    (older / "splits.yaml").unlink()
    main(["report", str(older)])
    assert "Images" not in (older / "summary.md").read_text()
    # With everything finished no data are read.
    main(["compare", str(config)])
    assert line in (folder_of(config) / "summary.md").read_text()


def test_without_a_standard_error_there_is_no_bar(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    with pytest.raises(SystemExit, match="comparison.yaml is missing"):
        main(["report", str(tmp_path)])
    with compare._progress_bar([], tmp_path) as progress:
        compare._advance(progress, "plain, seed 0, done")


def test_report_needs_results(tmp_path):
    with pytest.raises(SystemExit, match="comparison.yaml is missing"):
        main(["report", str(tmp_path)])
    (tmp_path / "comparison.yaml").write_text("baselines: {plain: null}\n")
    with pytest.raises(SystemExit, match="no run is finished"):
        main(["report", str(tmp_path)])
    with pytest.raises(SystemExit, match="a=b: no results of a comparison"):
        main(["report", "a=b", str(tmp_path)])


def test_a_report_does_not_say_where_the_data_lies(tmp_path):
    (tmp_path / "comparison.yaml").write_text("baselines: {plain: null}\n")
    run = tmp_path / "plain" / "seed_0"
    run.mkdir(parents=True)
    data = {"root": "private/data", "train": {"Omniglot": {"root": "private/data", "split": "val"}}}
    settings = {"variant": "plain", "seed": 0, "epochs": 2, "data": data}
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))
    told = read_settings(tmp_path)["plain"]
    assert "private" not in str(told)
    assert told["data"]["train"]["Omniglot"] == {"root": "${data.root}", "split": "val"}
