"""What does not fit together is told before anything is run."""

import pytest

from benchmarks.errors import SettingsError
from benchmarks.settings.reading import load
from benchmarks.training.compare import checked_splits

SETTINGS = """
data:
  train: {few_glyphs.patterns: {split: train}}
  test: {few_glyphs.patterns: {split: test}}
model:
  trunk: {ConvTrunk: {widths: [4]}}
  embedder: {LinearEmbedder: {in_features: 4}}
embedding_size: 8
sampler: {RandomSampler: {}}
batch_size: 16
epochs: 1
optimizers: {trunk: &adam {AdamW: {}}, embedder: *adam, metric_loss: *adam}
seeds: [0]
variants:
  plain: {loss: {ProxyNCALoss: {}}}
"""
PLATEAU = "schedulers.trunk={ReduceLROnPlateau: {mode: max}}"
VALIDATED = "data.val={few_glyphs.patterns: {split: val}}"


def build_each(folder, *overrides: str) -> None:
    path = folder / "letters.yaml"
    path.write_text(SETTINGS)
    comparison = load(path, overrides, imports=["few_glyphs"])
    checked_splits(comparison.runs, comparison)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.trunk.ConvTrunk.in_channels=3"], r"model\.trunk: images \[2, 1, 12, 12\] of data"),
        (["model.embedder.LinearEmbedder.in_features=5"], r"model\.embedder: features \[2, 4\] of"),
        (
            ["model.embedder={Linear: {in_features: 4, out_features: 9}}"],
            r"embedding_size: expected 9, as model\.embedder gives, but got 8",
        ),
        (["model.trunk.ConvTrunk.widths=[4, 4, 4, 4, 4, 4]"], r"model\.trunk: images .* of data"),
        (
            ["transforms.train=[{ConvTrunk: {in_channels: 2}}]"],
            r"data\.train with transforms\.train: ",
        ),
        (
            ["transforms.eval=[{ConvTrunk: {in_channels: 2}}]"],
            r"data\.train with transforms\.eval: ",
        ),
        (["model.trunk={Identity: {}}", "model.embedder=null"], r"model\.trunk: expected embedd"),
        ([PLATEAU, "schedulers.by=plateau"], r"schedulers\.by: plateau .*: give data\.val"),
        (
            [PLATEAU, VALIDATED],
            r"schedulers\.by: expected plateau for ReduceLROnPlateau but got it",
        ),
        (
            ["schedulers.trunk={StepLR: {step_size: 1}}", "schedulers.by=plateau", VALIDATED],
            r"schedulers\.by: expected iteration or epoch for StepLR but got plateau",
        ),
        (
            ["sampler={MPerClassSampler: {m: 4, batch_size: 8}}"],
            r"sampler\.MPerClassSampler\.batch_size: expected 16, the `batch_size` of the run",
        ),
        (["sampler={Sampler: {}}"], "sampler: expected one that has a length: "),
        (
            ["sampler={MPerClassSampler: {m: 0}}"],
            r"sampler\.MPerClassSampler\.m: expected at least 1",
        ),
        (["variants.plain.loss={MeanReducer: {}}"], "loss: expected a loss .* but got MeanReducer"),
        (
            ["variants.plain.loss={MSELoss: {}}"],
            "loss: expected a module that takes embeddings, la",
        ),
        (["miner={Identity: {}}"], "miner: expected a module that takes embeddings, labels, as"),
        (
            ["variants.plain.loss.ProxyNCALoss.num_classes=9"],
            r"loss\.ProxyNCALoss\.num_classes: expected 8, the number of training classes",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_run(overrides, message, tmp_path):
    with pytest.raises(SettingsError, match=rf"letters\.yaml: variant plain: {message}"):
        build_each(tmp_path, *overrides)


def test_what_fits_is_built(tmp_path):
    build_each(tmp_path)
    build_each(tmp_path, PLATEAU, VALIDATED, "schedulers.by=plateau")
