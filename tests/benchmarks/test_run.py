"""One run of the benchmark: what the seed decides, what is recorded, what is left behind."""

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions as c_f
from torch.utils.data import RandomSampler

import benchmarks
from benchmarks import results
from benchmarks.batches import SeededSampler
from benchmarks.datasets import ImageClasses
from benchmarks.errors import SettingsError
from benchmarks.run import METRICS, Splits, execute, train_and_test
from benchmarks.settings import Run, dump, load
from few_glyphs import few_glyphs

CONFIG = Path(benchmarks.__file__).parent / "configs" / "glyphs.yaml"
pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")


def short(variant: str, *overrides: str, seed: int = 0) -> Run:
    """The shipped settings with two epochs of eleven steps."""
    brief = ["epochs=2", "iterations_per_epoch=11", "batch_size=32", f"seeds=[{seed}]"]
    (run,) = load(CONFIG, [*brief, *overrides], variant).runs
    return run


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(few_glyphs("trainval", 16), few_glyphs("test", 16))


class Recording(ImageClasses):
    """Keeps the rows of each batch, and the images as they were augmented."""

    def __init__(self, images: ImageClasses) -> None:
        super().__init__(images.images, images.labels, images.class_names)
        self.rows: list[list[int]] = []
        self.seen: list[torch.Tensor] = []
        self.augmentation_seeds: set[int] = set()

    def __getitems__(self, indices):
        items = super().__getitems__(indices)
        self.rows.append(list(indices))
        self.augmentation_seeds.add(getattr(self.transform, "seed", None))
        self.seen.append(torch.stack([image for image, _ in items]))
        return items


def recorded(run: Run, splits: Splits, folder: Path) -> Recording:
    train = Recording(splits.train)
    train_and_test(run, Splits(train, splits.test), folder)
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
    assert one.augmentation_seeds == other.augmentation_seeds
    assert not one.augmentation_seeds & another_seed.augmentation_seeds


def test_augmentation_leaves_the_batches_alone(splits, tmp_path):
    plain = recorded(short("proxy_nca", "augmentation=null"), splits, tmp_path / "plain")
    augmented = recorded(short("proxy_nca"), splits, tmp_path / "augmented")
    assert plain.rows == augmented.rows
    assert torch.equal(plain.seen[0], splits.train.images[plain.rows[0]])
    assert not torch.equal(plain.seen[0], augmented.seen[0])


def test_variants_with_one_seed_start_from_the_same_models(splits, tmp_path):
    frozen = [f"optimizers.{name}.AdamW.lr=0" for name in ("trunk", "embedder", "metric_loss")]
    metrics = [
        train_and_test(short(variant, *frozen, seed=seed), splits, tmp_path / f"{variant}{seed}")
        for variant, seed in [("proxy_nca", 0), ("proxy_nca+ps", 0), ("proxy_nca", 1)]
    ]
    assert metrics[0] == metrics[1]
    assert metrics[0] != metrics[2]


def test_a_run_repeats_bit_for_bit(splits, tmp_path):
    run = short("proxy_nca+ps")
    first = train_and_test(run, splits, tmp_path / "first")
    torch.randn(5)
    assert train_and_test(run, splits, tmp_path / "second") == first
    histories = [pd.read_csv(tmp_path / n / "loss_histories.csv") for n in ("first", "second")]
    pd.testing.assert_frame_equal(*histories)


@pytest.mark.parametrize("kind", ["torch", "pml"])
def test_a_seeded_sampler_draws_alone(kind):
    def sampler(seed):
        labels = np.arange(40) % 10
        inner = {
            "torch": lambda: RandomSampler(range(40)),
            "pml": lambda: MPerClassSampler(labels, 2, batch_size=8, length_before_new_iter=80),
        }[kind]()
        return SeededSampler(inner, seed)

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
    train_and_test(short(variant), splits, tmp_path)
    records = pd.read_csv(tmp_path / f"{table}.csv")
    assert columns <= set(records.columns)
    # Every tenth iteration of each epoch of eleven.
    assert records["~iteration~"].tolist() == [0, 10, 11, 21]
    if "num_rows" in columns:
        assert records["num_rows"].iloc[-1] > 0


def test_proxies_are_not_recorded(splits, tmp_path):
    train_and_test(short("proxy_nca+ps"), splits, tmp_path)
    with sqlite3.connect(tmp_path / "logs.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
    files = [path.stem for path in tmp_path.glob("*.csv")]
    assert "metric_loss_augmenter_ProxySynthesis" in tables
    assert not [name for name in tables + files if "param" in name]


def test_learning_rates_follow_a_cosine_to_zero_by_step(splits, tmp_path):
    train_and_test(short("proxy_nca"), splits, tmp_path)
    for name, start in {"trunk": 3e-3, "embedder": 3e-3, "metric_loss": 0.01}.items():
        records = pd.read_csv(tmp_path / f"{name}_optimizer_AdamW.csv")
        steps = records["~iteration~"]
        expected = [start * (1 + math.cos(math.pi * step / 22)) / 2 for step in steps]
        np.testing.assert_allclose(records["lr"], expected, rtol=1e-6)


# ----------------------------------------------------------------- what is left behind


def test_a_finished_run_leaves_metrics_settings_and_logs(splits, tmp_path):
    run = short("proxy_anchor", seed=7)
    folder = tmp_path / "proxy_anchor" / "seed_7"
    assert not results.is_finished(folder, run)
    table = execute(run, splits, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["seed_7"]
    assert (folder / "settings.yaml").read_text() == dump(run)
    assert (folder / "logs" / "loss_histories.csv").exists()
    written = pd.read_csv(folder / "metrics.csv")
    pd.testing.assert_frame_equal(written, table)
    assert written.columns.tolist() == ["variant", "seed", *METRICS, "seconds"]
    assert written.loc[0, ["variant", "seed"]].tolist() == ["proxy_anchor", 7]
    assert results.is_finished(folder, run)


def test_other_settings_in_the_folder_are_refused_and_shown(splits, tmp_path):
    run = short("raw_pixels")
    execute(run, splits, tmp_path / "run")
    with pytest.raises(SettingsError) as caught:
        results.is_finished(tmp_path / "run", replace(run, batch_size=48))
    lines = str(caught.value).splitlines()
    assert f"{tmp_path / 'run'} holds a run with other settings" in lines[0]
    assert "-batch_size: 32" in lines
    assert "+batch_size: 48" in lines
    assert not [line for line in lines if line.startswith(("-seed", "+seed"))]


def test_a_failed_run_leaves_no_results(splits, tmp_path):
    run = short("proxy_nca", "variants.proxy_nca.optimizers.trunk.AdamW.lr=-1")
    with pytest.raises(ValueError, match="learning rate"):
        execute(run, splits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    execute(short("raw_pixels"), splits, tmp_path / "run")
    assert not (tmp_path / "run.unfinished").exists()


def test_proxies_without_an_optimizer_are_refused(splits, tmp_path):
    run = short("proxy_nca", "optimizers.metric_loss=null")
    with pytest.raises(SettingsError, match=r"proxy_nca: optimizers\.metric_loss is not given"):
        train_and_test(run, splits, tmp_path)


def test_raw_pixels_are_compared_as_unit_vectors(splits, tmp_path):
    metrics = train_and_test(short("raw_pixels"), splits, tmp_path)
    pixels = torch.nn.functional.normalize(splits.test.images.flatten(1))
    similarity = pixels @ pixels.T - 2 * torch.eye(len(pixels))
    nearest = splits.test.labels[similarity.argmax(dim=1)]
    expected = (nearest == splits.test.labels).double().mean().item()
    assert metrics["precision_at_1"] == pytest.approx(expected, abs=0.003)
