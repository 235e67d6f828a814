"""One run of the benchmark: what the seed decides, what is recorded, what is left behind."""

import math
import multiprocessing
import pickle
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions as c_f
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch.utils.data import RandomSampler

import benchmarks
from benchmarks.datasets import ImageClasses, RandomAffine, RandomFlip
from benchmarks.datasets.batches import SeededSampler, batches_of
from benchmarks.datasets.splits import Splits
from benchmarks.datasets.transforms import InTurn, batch_at
from benchmarks.errors import SettingsError
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.evaluation.retrieval import RetrievalAccuracy
from benchmarks.results import changes, paths, writing
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Run, dump
from benchmarks.training.assembly import Parts
from benchmarks.training.hooks import RecordingHooks
from benchmarks.training.run import execute
from benchmarks.training.timing import PARTS
from few_glyphs import patterns

CONFIG = Path(benchmarks.__file__).parent / "configs" / "glyphs.yaml"
NOT_TIMES = ["variant", "seed", "split", "epoch", "precision_at_1", MAIN_METRIC]


def short(variant: str, *overrides: str, seed: int = 0) -> Run:
    """The shipped settings with two epochs of eleven steps."""
    brief = ["epochs=2", "iterations_per_epoch=11", "batch_size=32", f"seeds=[{seed}]"]
    (run,) = load(CONFIG, [*brief, *overrides], [variant], ["few_glyphs"]).runs
    return run


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(patterns("train", 16), patterns("val"), patterns("test"))


class Recording(ImageClasses):
    """Keeps the rows of each batch, and the images as they were augmented."""

    def __init__(self, images: ImageClasses) -> None:
        super().__init__(images.images, images.labels, images.class_names)
        self.rows: list[list[int]] = []
        self.seen: list[torch.Tensor] = []

    def __getitems__(self, indices):
        items = super().__getitems__(indices)
        self.rows.append(list(indices))
        self.seen.append(torch.stack([image for image, _ in items]))
        return items


def recorded(run: Run, splits: Splits, folder: Path) -> Recording:
    train = Recording(splits.train)
    execute(run, replace(splits, train=train), folder)
    # The last look at them is for the pictures.
    del train.rows[-1], train.seen[-1]
    return train


# ------------------------------------------------------------- what the seed decides


@pytest.mark.parametrize(
    ("plain", "synthetic"), [("proxy_nca", "proxy_nca+ps"), ("proxy_anchor", "proxy_anchor+see")]
)
def test_variants_with_one_seed_see_the_same_batches(plain, synthetic, splits, tmp_path):
    # The global generators, from which others draw too, change nothing.
    torch.manual_seed(98)
    np.random.seed(98)
    one = recorded(short(plain, seed=1), splits, tmp_path / "one")
    torch.manual_seed(99)
    np.random.seed(99)
    other = recorded(short(synthetic, seed=1), splits, tmp_path / "other")
    assert len(one.rows) == 22
    assert one.rows == other.rows
    assert all(map(torch.equal, one.seen, other.seen))

    another_seed = recorded(short(plain, seed=2), splits, tmp_path / "another")
    assert one.rows != another_seed.rows
    assert one.rows[:11] != one.rows[11:], "epochs differ too"


def test_augmentation_leaves_the_batches_alone(splits, tmp_path):
    plain = recorded(short("proxy_nca", "transforms.train=[]"), splits, tmp_path / "plain")
    augmented = recorded(short("proxy_nca"), splits, tmp_path / "augmented")
    assert plain.rows == augmented.rows
    assert torch.equal(plain.seen[0], splits.train.images[plain.rows[0]])
    assert not torch.equal(plain.seen[0], augmented.seen[0])


def test_each_epoch_is_augmented_in_its_own_way(splits):
    parts = Parts(short("proxy_nca"), splits)

    def augmented(epoch: int) -> torch.Tensor:
        parts.training.start(epoch)
        return parts.training.images.transform(splits.train.images)

    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))


@pytest.mark.parametrize("own", [RandomAffine(), InTurn([RandomFlip(), RandomAffine(seed=3)])])
def test_random_transforms_of_the_dataset_itself_differ_by_epoch_and_seed(own, splits):
    train = patterns("train", 16)
    train.transform = own
    given = replace(splits, train=train)

    def transformed(seed: int, epoch: int) -> torch.Tensor:
        parts = Parts(short("proxy_nca", "transforms.train=[]", seed=seed), given)
        parts.training.start(epoch)
        with batch_at(8):
            return parts.training.images.transform(splits.train.images[:4])

    first = transformed(0, 1)
    assert torch.equal(transformed(0, 1), first)
    assert not torch.equal(transformed(0, 2), first)
    assert not torch.equal(transformed(1, 1), first)


LEARNING_AUGMENTER = "variants.proxy_nca+ps.loss.SynthesisLoss.augmenter={few_glyphs.Moved: {}}"


def test_an_augmenter_that_learns_has_an_optimizer_of_its_own(splits, tmp_path):
    settings = [LEARNING_AUGMENTER, "optimizers.augmenter={SGD: {lr: 0.1}}"]
    run = short("proxy_nca+ps", *settings)
    parts = Parts(run, splits)
    moved = parts.losses["metric_loss"].augmenter.by
    own = parts.optimizers["augmenter_optimizer"].param_groups[0]
    others = parts.optimizers["metric_loss_optimizer"].param_groups[0]
    assert [id(p) for p in own["params"]] == [id(moved)] and own["lr"] == 0.1
    assert len(others["params"]) == 1
    parts.trainer(None).train(1, 1)
    assert moved.abs().sum() > 0
    execute(run, splits, tmp_path / "run")
    with pytest.raises(SettingsError, match="optimizers.augmenter is needed"):
        Parts(short("proxy_nca+ps", LEARNING_AUGMENTER), splits)


def test_samplers_of_pml_give_the_rows_of_an_epoch(splits):
    run = short("proxy_anchor")
    assert len(Parts(run, splits).training.sampler) == run.batch_size * run.iterations_per_epoch


def test_without_epochs_there_is_nothing_that_trains(splits):
    trained, untrained = (vars(Parts(short(v), splits)) for v in ("proxy_nca", "untrained_trunk"))
    assert trained.keys() == untrained.keys()
    names = ("losses", "miners", "optimizers", "schedulers", "scalers", "training")
    assert not any(untrained[name] for name in names)


def test_variants_with_one_seed_start_from_the_same_models(splits, tmp_path):
    frozen = [f"optimizers.{name}.AdamW.lr=0" for name in ("trunk", "embedder", "metric_loss")]
    histories = [
        execute(short(variant, *frozen, seed=seed), splits, tmp_path / f"{variant}{seed}")
        for variant, seed in [("proxy_nca", 0), ("proxy_nca+ps", 0), ("proxy_nca", 1)]
    ]
    metrics = [history["precision_at_1"].tolist() for history in histories]
    assert metrics[0] == metrics[1]
    assert metrics[0] != metrics[2]


def test_a_run_repeats_bit_for_bit(splits, tmp_path):
    run = short("proxy_nca+ps")
    first = execute(run, splits, tmp_path / "first")
    torch.randn(5)
    second = execute(run, splits, tmp_path / "second")
    pd.testing.assert_frame_equal(first[NOT_TIMES], second[NOT_TIMES])
    losses = [pd.read_csv(tmp_path / n / "logs/loss_histories.csv") for n in ("first", "second")]
    pd.testing.assert_frame_equal(*losses)


def test_processes_that_read_ahead_change_nothing(splits, tmp_path):
    tables = [
        execute(
            short("proxy_nca", "iterations_per_epoch=3", f"data.workers={workers}"),
            splits,
            tmp_path / name,
        )
        for name, workers in {"none": 0, "two": 2}.items()
    ]
    assert not multiprocessing.active_children()
    pd.testing.assert_frame_equal(*(table[NOT_TIMES] for table in tables))


def test_processes_that_read_ahead_draw_by_seed_and_epoch_alone(splits):
    noise = ImageClasses(*vars(patterns("train", 16)).values())
    noise.transform = torch.rand_like
    parts = Parts(short("proxy_nca", "transforms.train=[]"), replace(splits, train=noise))

    def augmented(epoch: int, disturbance: int, workers: int) -> torch.Tensor:
        parts.training.start(epoch)
        torch.manual_seed(disturbance)
        loader = batches_of(
            parts.training.images, parts.training.sampler, 32, slice(0, 32), workers, False
        )
        return torch.cat([images for images, _ in loader])

    images = augmented(1, 8, workers=2)
    assert torch.equal(images, augmented(1, 9, workers=0))
    assert not torch.equal(images, augmented(2, 8, workers=0))


def test_images_with_transforms_can_go_to_another_process(splits):
    images = Parts(short("proxy_nca"), splits).training.images
    there = pickle.loads(pickle.dumps(images))
    assert torch.equal(there[0][0], images[0][0])


@pytest.mark.parametrize("kind", ["torch", "pml"])
def test_a_seeded_sampler_draws_alone(kind):
    def sampler(seed):
        labels = np.arange(40) % 10
        make = {
            "torch": lambda: RandomSampler(range(40)),
            "pml": lambda: MPerClassSampler(labels, 2, batch_size=8, length_before_new_iter=80),
        }[kind]
        return SeededSampler(make, seed)

    one, same, other = sampler(3), sampler(3), sampler(4)
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first_pass, second_pass = list(one), list(one)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert c_f.NUMPY_RANDOM is np.random

    torch.manual_seed(2)
    np.random.seed(2)
    assert [list(same), list(same)] == [first_pass, second_pass]
    assert first_pass != second_pass
    assert list(other) != first_pass
    assert len(one) == len(first_pass)

    one.set_epoch(1)
    next_epoch = list(one)
    assert next_epoch not in (first_pass, second_pass)
    one.set_epoch(0)
    assert list(one) == first_pass
    same.set_epoch(1)
    assert list(same) == next_epoch


# ------------------------------------------------------------------- what is recorded


@pytest.mark.parametrize(
    ("variant", "table", "columns"),
    [
        ("proxy_nca+ps", "metric_loss_augmenter_ProxySynthesis", {"mixing_weight", "num_rows"}),
        ("proxy_nca+ps", "metric_loss_loss_ProxyNCALoss", {"num_classes"}),
        (
            "proxy_anchor+see",
            "metric_loss_embedding_regularizer_augmenter_SphericalEmbeddingExpansion",
            {"num_rows"},
        ),
    ],
)
def test_statistics_of_nested_modules_are_recorded(variant, table, columns, splits, tmp_path):
    execute(short(variant), splits, tmp_path)
    records = pd.read_csv(tmp_path / "logs" / f"{table}.csv")
    assert columns <= set(records.columns)
    # Every tenth iteration of each epoch of eleven.
    assert records["~iteration~"].tolist() == [0, 10, 11, 21]
    if "num_rows" in columns:
        assert records["num_rows"].iloc[-1] > 0


def test_proxies_are_not_recorded(splits, tmp_path):
    execute(short("proxy_nca+ps"), splits, tmp_path)
    logs = tmp_path / "logs"
    with sqlite3.connect(logs / "logs.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
    files = [path.stem for path in logs.glob("*.csv")]
    assert "metric_loss_augmenter_ProxySynthesis" in tables
    assert not [name for name in tables + files if "param" in name]


def test_learning_rates_follow_a_cosine_to_zero_by_step(splits, tmp_path):
    execute(short("proxy_nca"), splits, tmp_path)
    for name, start in {"trunk": 3e-3, "embedder": 3e-3, "metric_loss": 0.01}.items():
        records = pd.read_csv(tmp_path / "logs" / f"{name}_optimizer_AdamW.csv")
        steps = records["~iteration~"]
        expected = [start * (1 + math.cos(math.pi * step / 22)) / 2 for step in steps]
        np.testing.assert_allclose(records["lr"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("by", "scheduler"),
    [
        ("epoch", "{StepLR: {step_size: 1, gamma: 0.5}}"),
        # Nothing is an infinite improvement: every look lowers the rate.
        ("plateau", "{ReduceLROnPlateau: {patience: 0, factor: 0.5, threshold: 1e9}}"),
    ],
)
def test_schedulers_step_by_epoch_or_validation(by, scheduler, splits, tmp_path):
    overrides = [f"schedulers.trunk={scheduler}", f"schedulers.by={by}", "epochs=3"]
    others = ["schedulers.embedder=null", "schedulers.metric_loss=null", "evaluate_every=1"]
    execute(short("proxy_nca", *overrides, *others), splits, tmp_path)
    records = pd.read_csv(tmp_path / "logs" / "trunk_optimizer_AdamW.csv")
    first_of_epochs = records[records["~iteration~"] % 11 == 0]["lr"].tolist()
    assert first_of_epochs == pytest.approx([3e-3, 1.5e-3, 0.75e-3])


def test_the_time_of_a_step_is_recorded_for_each_epoch(splits, tmp_path):
    execute(short("proxy_nca"), splits, tmp_path)
    seconds = pd.read_csv(tmp_path / "logs" / "seconds_per_step.csv")
    assert seconds["~iteration~"].tolist() == [1, 2]
    assert set(seconds.columns) - {"id"} == {"~iteration~", *PARTS}
    assert (seconds[list(PARTS)] > 0).all(axis=None)


def test_tensorboard_logs_are_written(splits, tmp_path):
    execute(short("proxy_nca"), splits, tmp_path)
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard")).Reload()
    scalars = events.Scalars("loss_histories/total_loss")
    assert [event.step for event in scalars] == [0, 10, 11, 21]


def test_a_resumed_run_hides_what_tensorboard_has_from_there_on(tmp_path, monkeypatch):
    # TensorBoard reads files in the order of their names, which end with a number: 10 is before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for first_step, steps in ((0, [0, 10, 20]), (10, [10, 20, 30])):
        hooks = RecordingHooks(tmp_path, {}, first_step)
        for step in steps:
            hooks.record_keeper.update_records({"loss": 1.0}, step, parent_name="losses")
        hooks.save()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("losses/loss")] == [0, 10, 20, 30]


# ------------------------------------------------------------------- which epoch is tested


class Counting(ImageClasses):
    """Counts how often all of its images are read."""

    def __init__(self, images: ImageClasses) -> None:
        super().__init__(images.images, images.labels, images.class_names)
        self.looks: list[int] = []

    def __getitems__(self, indices):
        self.looks.append(len(indices))
        return super().__getitems__(indices)


def test_the_test_classes_are_looked_at_once_with_the_best_validation_epoch(splits, tmp_path):
    test = Counting(splits.test)
    run = short("proxy_nca", "epochs=6", "iterations_per_epoch=2", "evaluate_every=1")
    # High rates without a schedule: validation goes up and down.
    rough = replace(run, schedulers=replace(run.schedulers, trunk=None))
    rough.optimizers.trunk = {"AdamW": {"lr": 0.3}}
    history = execute(rough, replace(splits, test=test), tmp_path)
    looks, tested = history[history["split"] == "val"], history[history["split"] == "test"]
    assert looks["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    best = looks.loc[looks[MAIN_METRIC].idxmax(), "epoch"]
    assert 6 not in (best, tested["epoch"].item()), "or the test shows nothing"
    assert tested["epoch"].tolist() == [best]
    assert sum(test.looks) == len(test)

    # The weights that were kept give the figures that were written.
    parts = Parts(rough, splits)
    for name, weights in torch.load(tmp_path / "best.pt", weights_only=True).items():
        (parts.models | parts.losses)[name].load_state_dict(weights)
    images = splits.test
    with torch.no_grad():
        for model in parts.models.values():
            model.eval()
        embeddings = parts.models["embedder"](parts.models["trunk"](images.images))
    embeddings = torch.nn.functional.normalize(embeddings)
    metrics = RetrievalAccuracy([2]).get_accuracy(embeddings, images.labels)
    assert tested[MAIN_METRIC].item() == pytest.approx(metrics[MAIN_METRIC])


def test_validation_is_looked_at_every_few_epochs_and_at_the_end(splits, tmp_path):
    run = short("proxy_nca", "epochs=5", "iterations_per_epoch=1", "evaluate_every=2")
    history = execute(run, splits, tmp_path)
    assert history[history["split"] == "val"]["epoch"].tolist() == [2, 4, 5]


def test_without_validation_the_last_epoch_is_tested_and_without_test_nothing(splits, tmp_path):
    run = short("proxy_nca", "iterations_per_epoch=1")
    last = execute(run, replace(splits, val=None), tmp_path / "last")
    assert last[["split", "epoch"]].values.tolist() == [["test", 2]]
    unseen = execute(run, replace(splits, test=None), tmp_path / "unseen")
    assert unseen["split"].tolist() == ["val"]


def test_autocast_leaves_weights_and_metrics_in_float32(splits, tmp_path):
    run = short("proxy_nca", "autocast=true", "iterations_per_epoch=2")
    history = execute(run, splits, tmp_path / "half")
    full = execute(replace(run, autocast=False), splits, tmp_path / "full")
    saved = torch.load(tmp_path / "half" / "best.pt", weights_only=True)
    floats = [t for m in saved.values() for t in m.values() if torch.is_tensor(t)]
    assert {t.dtype for t in floats if t.is_floating_point()} == {torch.float32}
    there = torch.load(tmp_path / "full" / "best.pt", weights_only=True)
    weight = "layers.0.weight"
    assert not torch.equal(saved["trunk"][weight], there["trunk"][weight])
    assert history[MAIN_METRIC].tolist() == pytest.approx(full[MAIN_METRIC].tolist(), abs=0.1)


# ----------------------------------------------------------------- what is left behind


def test_a_finished_run_leaves_metrics_settings_versions_models_and_logs(splits, tmp_path):
    run = short("proxy_anchor", seed=7)
    folder = tmp_path / "proxy_anchor" / "seed_7"
    assert not paths.is_finished(folder)
    table = execute(run, splits, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("best.pt", "data.yaml", "hits.pt", "logs", "metrics.csv"),
        *("settings.yaml", "versions.yaml", "view.pt"),
    ]
    assert (folder / "settings.yaml").read_text() == dump(run)
    (versions,) = yaml.safe_load((folder / "versions.yaml").read_text())
    assert versions["torch"] == torch.__version__
    assert versions.keys() >= {"commit", "python", "faiss", "pytorch_metric_learning"}
    written = pd.read_csv(folder / "metrics.csv")
    pd.testing.assert_frame_equal(written, table)
    assert written.columns.tolist() == [
        *("variant", "seed", "split", "epoch"),
        *("precision_at_1", "recall_at_2", "recall_at_4", "recall_at_8"),
        *("r_precision", MAIN_METRIC, "seconds"),
    ]
    assert written.loc[0, ["variant", "seed"]].tolist() == ["proxy_anchor", 7]
    assert paths.is_finished(folder)


def test_other_settings_in_the_folder_are_refused_and_shown(tmp_path):
    runs = [short(variant) for variant in ("raw_pixels", "proxy_nca", "proxy_anchor")]
    for run in runs:
        for seed in (3, 4):
            writing.start(paths.run_folder(tmp_path, run), replace(run, seed=seed))
    pixels, nca, anchor = runs
    faster = {"trunk": {"AdamW": {"lr": 0.01, "weight_decay": 1e-4}}}
    changed = [
        replace(pixels, batch_size=48, seed=8),
        replace(nca, batch_size=48, optimizers=replace(nca.optimizers, **faster)),
        anchor,
    ]
    with pytest.raises(SettingsError) as caught:
        changes.check_settings(tmp_path, changed)
    assert str(caught.value).splitlines() == [
        f"{tmp_path} holds runs with other settings, of raw_pixels, proxy_nca:",
        "  batch_size: 32 there, 48 now",
        "  optimizers.trunk.AdamW.lr: 0.003 there, 0.01 now",
        f"Delete {tmp_path}, or the folders of these variants in it, or give the comparison "
        "another name (name=...) or place (results=...).",
    ]
    changes.check_settings(tmp_path, [replace(run, seed=8) for run in runs])


def test_another_object_is_one_change_and_of_many_changes_some_are_shown(tmp_path):
    run = short("proxy_nca")
    writing.start(paths.run_folder(tmp_path, run), run)
    loss = {"ArcFaceLoss": {"margin": 20, "weight_init_func": {"UnitProxies": {"dim": 0}}}}
    with pytest.raises(SettingsError) as caught:
        changes.check_settings(tmp_path, [replace(run, loss=loss, miner={"AngularMiner": {}})])
    _, first, second, _ = str(caught.value).splitlines()
    assert re.fullmatch(r'  loss: {"ProxyNCALoss": .* there, {"ArcFaceLoss": .* \.\.\. now', first)
    assert second == '  miner: null there, {"AngularMiner": {}} now'
    run_with_null = replace(
        run, loss={"ProxyNCALoss": run.loss["ProxyNCALoss"] | {"reducer": None}}
    )
    with pytest.raises(SettingsError, match="ProxyNCALoss.reducer: not given there, null now"):
        changes.check_settings(tmp_path, [run_with_null])
    others = dict.fromkeys(["batch_size", "embedding_size", "evaluate_every"], 7)
    others |= {"device": "cuda", "autocast": True, "recall_at": [9], "loss": loss}
    with pytest.raises(SettingsError) as caught:
        changes.check_settings(tmp_path, [replace(run, **others)])
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 5 + 1 + 1
    assert lines[-2] == "  and 2 more"


def test_settings_that_the_runner_learned_since_have_their_defaults(tmp_path):
    run = short("raw_pixels")
    folder = paths.run_folder(tmp_path, run)
    writing.start(folder, run)
    written = yaml.safe_load((folder / paths.SETTINGS).read_text())
    del written["autocast_dtype"], written["data"]["fold"]
    (folder / paths.SETTINGS).write_text(yaml.safe_dump(written))
    changes.check_settings(tmp_path, [run])
    with pytest.raises(SettingsError, match="data.fold: 0 there, 1 now"):
        changes.check_settings(tmp_path, [replace(run, data=replace(run.data, fold=1))])


def test_data_that_moved_are_the_same_data(tmp_path):
    def run(root: str, split: str = "train") -> Run:
        data = f"data={{root: {root}, train: {{Omniglot: {{root: {root}/o, split: {split}}}}}}}"
        return short("raw_pixels", data)

    writing.start(paths.run_folder(tmp_path, run("here")), run("here"))
    changes.check_settings(tmp_path, [run("/over/there")])
    with pytest.raises(SettingsError, match='split: "train" there, "val" now'):
        changes.check_settings(tmp_path, [run("here", "val")])


def test_raw_pixels_are_compared_as_unit_vectors(splits, tmp_path):
    metrics = execute(short("raw_pixels"), splits, tmp_path).set_index("split").loc["test"]
    pixels = torch.nn.functional.normalize(splits.test.images.flatten(1))
    similarity = pixels @ pixels.T - 2 * torch.eye(len(pixels))
    nearest = splits.test.labels[similarity.argmax(dim=1)]
    expected = (nearest == splits.test.labels).double().mean().item()
    assert metrics["precision_at_1"] == pytest.approx(expected, abs=0.003)


def test_transforms_of_the_settings_follow_those_of_the_dataset(splits):
    run = short("proxy_nca", "transforms.eval=[{few_glyphs.Scaled: {by: 3}}]")
    images = ImageClasses(*vars(patterns("test")).values())
    images.transform = torch.ones_like
    shown = Parts(run, replace(splits, test=images)).test
    assert shown[0][0].unique().tolist() == [3]
    assert images[0][0].unique().tolist() == [1]
