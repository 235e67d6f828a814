"""A finished run on a small folder of pictures, for the tests of trained networks."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.results import paths
from benchmarks.settings.described import load_splits
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Run
from benchmarks.training.run import execute

SETTINGS = """
data:
  root: ???
  train: {ImageFolder: {<<: &folder {root: "${data.root}", size: 12}, split: train}}
  val: {ImageFolder: {<<: *folder, split: val}}
  test: {ImageFolder: {<<: *folder, split: test}}
transforms: {eval: [{Normalize: {mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4]}}]}
model:
  trunk: {ConvTrunk: {widths: [4, 6], in_channels: 3}}
  embedder: {LinearEmbedder: {in_features: 6, embedding_size: 5}}
embedding_size: 5
sampler: {RandomSampler: {}}
batch_size: 8
epochs: 1
iterations_per_epoch: 2
optimizers: {trunk: &adam {AdamW: {}}, embedder: *adam, metric_loss: *adam}
seeds: [0]
parallel_runs: 1
variants:
  plain: {loss: {ProxyNCALoss: {}}}
  plain+ps: {loss: {SynthesisLoss: {loss: {ProxyNCALoss: {}}, augmenter: {ProxySynthesis: {}}}}}
  untrained: {model: {embedder: null}, epochs: 0}
"""


def write_photos(root: Path, classes: int = 10, images: int = 4) -> Path:
    """Write pictures of sizes of their own, those of a class alike, in root/<class>/."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class {label}"
        folder.mkdir(parents=True)
        prototype = rng.integers(50, 200, size=(3, 3, 3)).astype(np.uint8)
        for i in range(images):
            size = tuple(rng.integers(20, 40, size=2).tolist())
            pixels = np.array(Image.fromarray(prototype).resize(size)).astype(int)
            pixels += rng.integers(-30, 30, size=pixels.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


def write_settings(folder: Path, photos: Path) -> Path:
    """Write a settings file of a comparison that takes seconds."""
    path = folder / "photos.yaml"
    path.write_text(f"results: {folder / 'runs'}\n" + SETTINGS.replace("???", str(photos)))
    return path


def finished_run(folder: Path, variant: str = "plain", *overrides: str) -> Path:
    """Return the folder of a run that was trained on pictures in folder/photos."""
    photos = folder / "photos"
    if not photos.exists():
        write_photos(photos)
    comparison = load(write_settings(folder, photos), overrides, [variant])
    (run,) = comparison.runs
    place = paths.run_folder(comparison.folder, run)
    execute(run, load_splits(run.data), place)
    return place


def patterns_run(variant: str, seed: int, *overrides: str) -> Run:
    """Return a run that tests on `few_glyphs.patterns` what the variants above train."""
    data = "data={train: {few_glyphs.patterns: {split: train}}, test: {few_glyphs.patterns: {}}}"
    trunk = "model.trunk.ConvTrunk.in_channels=1"
    with TemporaryDirectory() as folder:
        config = write_settings(Path(folder), Path(folder))
        settings = [data, trunk, "transforms.eval=[]", f"seeds=[{seed}]", *overrides]
        (run,) = load(config, settings, [variant], ["few_glyphs"]).runs
    return run
