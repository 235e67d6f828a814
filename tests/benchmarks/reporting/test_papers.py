"""The settings of the papers: published numbers in them, a run of each, figures beside them."""

import math
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

import benchmarks
import forked_processes
from benchmarks import files
from benchmarks.__main__ import main
from benchmarks.datasets import CUB, Cars196, InShop, StanfordOnlineProducts
from benchmarks.models import LayerNormEmbedder, LinearProxies, TimmTrunk, TorchvisionTrunk
from benchmarks.reporting.papers import published, table
from benchmarks.results import paths, writing
from benchmarks.settings.described import load_splits
from benchmarks.settings.files import read
from benchmarks.settings.objects import build
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Half, Run
from benchmarks.training.assembly import Parts
from benchmarks.training.run import execute
from benchmarks.training.trainer import Trainer
from miniature_sets import write_cars, write_cub, write_inshop, write_sop

ROOT = Path(benchmarks.__file__).parents[1]
PAPERS = ROOT / "benchmarks" / "configs" / "papers"
FILES = sorted(path.stem for path in PAPERS.glob("*.yaml"))
WRITERS = {"cub": write_cub, "cars196": write_cars, "sop": write_sop, "inshop": write_inshop}
DATASETS = {"cub": CUB, "cars196": Cars196, "sop": StanfordOnlineProducts, "inshop": InShop}
RECALL_AT = {
    **{"cub": [1, 2, 4, 8], "cars196": [1, 2, 4, 8]},
    **{"sop": [1, 10, 100, 1000], "inshop": [1, 10, 20, 30]},
}
SMALL_TRUNK = "{ConvTrunk: {widths: [4, 6], in_channels: 3}}"
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


@cache
def settings_of(name: str) -> dict:
    return read(PAPERS / f"{name}.yaml")


@cache
def with_small_trunk(name: str) -> list[str]:
    """Changes of a settings file, as timm need not be installed."""
    settings = settings_of(name)
    places = {f"variants.{name}.": changes for name, changes in settings["variants"].items()}
    changes = []
    for place, tree in {"": settings, **places}.items():
        model = tree.get("model", {})
        if "trunk" in model:
            changes.append(f"{place}model.trunk={SMALL_TRUNK}")
        for embedder in model.get("embedder", {}):
            changes.append(f"{place}model.embedder.{embedder}.in_features=6")
    return [*changes, *(["data.fold=1"] if name.startswith("reality_check") else [])]


def loaded(name: str, *overrides: str):
    """A settings file with a small trunk."""
    changes = [*with_small_trunk(name), "data.root=somewhere", *overrides]
    return load(PAPERS / f"{name}.yaml", changes)


@cache
def as_published(name: str):
    return loaded(name)


def trunks_of(name: str) -> dict[str, dict]:
    """The trunks of the variants of a settings file, which need not be installed."""
    variants = load(PAPERS / f"{name}.yaml", ["data.root=somewhere"]).variants
    return {run.variant: run.model.trunk for run in variants}


# -------------------------------------------------------------- the published numbers


def test_there_is_a_file_for_each_paper_and_set():
    kinds = ["ps", "ps_other_losses", "see", "see_vision_transformers"]
    papers = {f"{kind}_{key}" for kind in kinds for key in WRITERS}
    assert set(FILES) == papers | {f"reality_check_{key}" for key in ("cub", "cars196", "sop")}


@pytest.mark.parametrize("name", FILES)
def test_splits_and_metrics_are_those_of_the_set(name):
    key = name.split("_")[-1]
    for run in as_published(name).variants:
        ((dataset, train),) = run.data.train.items()
        assert dataset == DATASETS[key].__name__
        assert (train["root"], train["split"]) == ("somewhere", "train")
        tests = {part: described[dataset]["split"] for part, described in held(run).items()}
        assert tests == (
            {"test": "query", "gallery": "gallery"}
            if key == "inshop"
            else {"val": "val", "test": "test"}
            if name.startswith("reality_check")
            else {"test": "test"}
        )
        assert run.recall_at == RECALL_AT[key]


def held(run) -> dict:
    parts = {"val": run.data.val, "test": run.data.test, "gallery": run.data.gallery}
    return {part: described for part, described in parts.items() if described is not None}


@pytest.mark.parametrize("key", WRITERS)
def test_proxy_synthesis_has_its_released_settings(key):
    comparison = as_published(f"ps_{key}")
    assert list(comparison.baselines) == [
        *("norm_softmax", "norm_softmax+ps", "proxy_nca", "proxy_nca+ps")
    ]
    assert {run.seed for run in comparison.runs} == set(range(8))
    for run in comparison.variants:
        assert (run.embedding_size, run.batch_size, run.epochs) == (512, 128, 130)
        assert run.iterations_per_epoch == DATASETS[key].sizes["train"].images // 128
        assert run.model.freeze_batch_norm and not run.autocast
        for name, rate in {"trunk": 1e-4, "embedder": 1e-4, "metric_loss": 1e-2}.items():
            ((optimizer, options),) = getattr(run.optimizers, name).items()
            assert optimizer == "Adam"
            assert options == {"lr": rate, "eps": 0.01, "weight_decay": 1e-4}
            ((scheduler, options),) = getattr(run.schedulers, name).items()
            assert (scheduler, options) == ("MultiStepLR", {"milestones": [49], "gamma": 0.1})
        assert run.schedulers.by.value == "epoch"
        assert run.transforms.train[0] == {"RandomResizedCrop": {"size": 224}}
        assert run.transforms.eval[0] == {"CenterCrop": {"size": 224}}
        loss = build(run.loss, num_classes=5, embedding_size=12)
        if run.variant.endswith("+ps"):
            assert (loss.augmenter.alpha, loss.augmenter.mu) == (0.4, 1.0)
            loss = loss.loss
        if run.variant.startswith("norm_softmax"):
            assert loss.temperature == pytest.approx(1 / 23, rel=1e-12)
            proxies = loss.W.T
        else:
            assert loss.softmax_scale == 12
            proxies = loss.proxies
        assert proxies.shape == (5, 12) and proxies.abs().max() <= 12**-0.5


def test_the_learning_rate_falls_at_the_fiftieth_epoch():
    run = as_published("ps_cars196").variants[0]
    rates = learning_rates(run.schedulers.trunk, run.epochs)
    assert rates == pytest.approx([1.0] * 49 + [0.1] * 81)


def released_training(run, optimizer: str) -> dict[str, dict]:
    """The options of the optimisers of a run, all of one class."""
    optimizers = {name: getattr(run.optimizers, name) for name in ("trunk", "embedder")}
    optimizers["metric_loss"] = run.optimizers.metric_loss
    assert all(list(described) == [optimizer] for described in optimizers.values())
    return {name: described[optimizer] for name, described in optimizers.items()}


OTHER_LOSSES = {
    "sphere_face": {"margin": 4, "scale": 1},
    "cos_face": {"margin": 0.35, "scale": 23},
    "arc_face": {"margin": pytest.approx(math.radians(28.6)), "scale": 23},
    "soft_triple": {"la": 20, "gamma": 10, "margin": 0.01},
    "proxy_anchor": {"margin": 0.1, "alpha": 32},
}


@pytest.mark.parametrize("key", WRITERS)
def test_the_other_losses_train_as_the_released_ones_do(key):
    comparison = as_published(f"ps_other_losses_{key}")
    assert list(comparison.baselines) == [f"{n}{ps}" for n in OTHER_LOSSES for ps in ("", "+ps")]
    released = as_published(f"ps_{key}").variants[0]
    for run in comparison.variants:
        name = run.variant.removesuffix("+ps")
        loss = build(run.loss, num_classes=5, embedding_size=12)
        if run.variant.endswith("+ps"):
            assert (loss.augmenter.alpha, loss.augmenter.mu) == (0.4, 1.0)
            loss = loss.loss
        assert type(loss).__name__ == name.replace("_", " ").title().replace(" ", "") + "Loss"
        assert {key: getattr(loss, key) for key in OTHER_LOSSES[name]} == OTHER_LOSSES[name]
        if name == "soft_triple":
            assert loss.centers_per_class == (10 if key in ("cub", "cars196") else 2)
        if name != "proxy_anchor":
            same = replace(run, variant=released.variant, loss=released.loss)
            assert same == released


@pytest.mark.parametrize(
    ("key", "rate", "step", "gamma", "frozen"),
    [
        *[("cub", 1e-4, 10, 0.5, True), ("cars196", 1e-4, 20, 0.5, True)],
        *[("sop", 6e-4, 20, 0.25, False), ("inshop", 6e-4, 20, 0.25, False)],
    ],
)
def test_proxy_anchor_trains_as_its_authors_released_it(key, rate, step, gamma, frozen):
    for run in as_published(f"ps_other_losses_{key}").variants[-2:]:
        assert (run.batch_size, run.epochs, run.clip_gradient_value) == (180, 60, 10)
        assert run.iterations_per_epoch == DATASETS[key].sizes["train"].images // 180
        assert run.model.freeze_batch_norm == frozen
        for name, options in released_training(run, "AdamW").items():
            factor = 100 if name == "metric_loss" else 1
            assert options == {"lr": pytest.approx(factor * rate), "weight_decay": 1e-4}
            rates = learning_rates(getattr(run.schedulers, name), run.epochs)
            falls = [gamma ** (epoch // step) for epoch in range(run.epochs)]
            first = 0 if name == "trunk" else 1  # warm-up: the trunk stands still
            assert rates == pytest.approx([first, *falls[1:]], abs=1e-7)


def learning_rates(scheduler: dict, epochs: int) -> list[float]:
    """The learning rate in each epoch, if it is 1 without the scheduler."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    built = build(scheduler, optimizer=optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        built.step()
    return rates


SEE_TRUNKS = {
    "see": {"resnet50": 512, "deit_s": 128},
    "see_vision_transformers": {
        **{"dino_s_128": 128, "vit_s_128": 128},
        **{"deit_s_384": 384, "dino_s_384": 384, "vit_s_384": 384},
    },
}


@pytest.mark.parametrize("kind", SEE_TRUNKS)
@pytest.mark.parametrize(
    ("key", "epochs", "decay", "warm_up", "head"),
    [
        *[("cub", 100, 1e-2, 1, 1e-5), ("cars196", 100, 1e-2, 1, 1e-5)],
        *[("sop", 150, 1e-4, 5, 1e-3), ("inshop", 300, 1e-4, 5, 1e-3)],
    ],
)
def test_see_has_its_released_settings(kind, key, epochs, decay, warm_up, head):
    comparison = as_published(f"{kind}_{key}")
    sizes = SEE_TRUNKS[kind]
    assert list(comparison.baselines) == [
        f"{trunk}_proxy_anchor{m}" for trunk in sizes for m in ("", "+see")
    ]
    for run in comparison.variants:
        assert run.embedding_size == sizes[run.variant.split("_proxy_anchor")[0]]
        assert (run.batch_size, run.epochs) == (180, epochs)
        assert run.iterations_per_epoch == DATASETS[key].sizes["train"].images // 180
        assert run.sampler == {"MPerClassSampler": {"m": 2}}
        assert run.model.freeze_batch_norm
        assert run.autocast and run.autocast_dtype is Half.float16
        assert run.clip_gradient_value == 10
        rates = {"trunk": 1e-5, "embedder": head, "metric_loss": 1e-5 * 1e4}
        for name, options in released_training(run, "AdamW").items():
            expected = {"lr": pytest.approx(rates[name]), "eps": 1e-4, "weight_decay": decay}
            assert options == expected
        stands_still = [1e-8] * warm_up + [1.0] * (8 - warm_up)
        assert learning_rates(run.schedulers.trunk, 8) == pytest.approx(stands_still)
        assert run.schedulers.by.value == "epoch"
        assert run.schedulers.embedder is None and run.schedulers.metric_loss is None
        vision_transformer = not run.variant.startswith("resnet50")
        crop = run.transforms.train[0]["RandomResizedCrop"]
        assert crop == {"size": 224, **({"scale": [0.2, 1.0]} if vision_transformer else {})}
        half = {"mean": [0.5] * 3, "std": [0.5] * 3} if run.variant.startswith("vit_s") else {}
        assert run.transforms.train[-1] == run.transforms.eval[-1] == {"Normalize": half}
        steps = {"num_steps": run.epochs * run.iterations_per_epoch}
        loss = build(run.loss, num_classes=5, embedding_size=12, **steps)
        assert (loss.margin, loss.alpha) == (0.1, 32)
        if run.variant.endswith("+see"):
            assert loss.embedding_reg_weight == 0.2
            see = loss.embedding_regularizer.augmenter
            assert see.num_expansions == 8 and see.detach
            assert (see.fraction(0), see.fraction(10**6)) == (0.0, 0.4)
            assert see.fraction.num_steps == min(epochs, 200) * run.iterations_per_epoch
        else:
            assert loss.embedding_regularizer is None


@pytest.mark.parametrize("kind", SEE_TRUNKS)
def test_the_trunks_of_see_are_those_of_its_paper(kind):
    starts = {
        "resnet50": "resnet50.tv_in1k",
        "deit_s": "deit_small_distilled_patch16_224.fb_in1k",
        "dino_s": "vit_small_patch16_224.dino",
        "vit_s": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    }
    for variant, trunk in trunks_of(f"{kind}_cub").items():
        (name,) = (name for start, name in starts.items() if variant.startswith(start))
        assert trunk["TimmTrunk"]["name"] == name
        # Of the vision transformers the patch embedding stands still.
        frozen = trunk["TimmTrunk"].get("frozen", [])
        assert frozen == ([] if variant.startswith("resnet50") else ["patch_embed"])


@pytest.mark.parametrize(
    ("key", "norm_softmax", "proxy_nca"),
    [
        ("cub", (4.46e-3, 0.1087), (6.04e-3, 13.98)),
        ("cars196", (1.10e-2, 0.0886), (4.43e-3, 7.97)),
        ("sop", (5.46e-4, 0.0630), (5.28e-4, 10.73)),
    ],
)
def test_the_fair_protocol_is_that_of_the_reality_check(key, norm_softmax, proxy_nca):
    comparison = as_published(f"reality_check_{key}")
    assert list(comparison.baselines) == [
        f"{loss}{m}" for loss in ("norm_softmax", "proxy_nca") for m in ("", "+ps", "+see")
    ]
    assert {run.seed for run in comparison.runs} == set(range(10))
    for run in comparison.variants:
        assert (run.embedding_size, run.batch_size) == (128, 32)
        assert run.sampler == {"MPerClassSampler": {"m": 1}}
        assert run.model.freeze_batch_norm
        assert run.transforms.train[0]["RandomResizedCrop"] == {"size": 227, "scale": [0.16, 1.0]}
        assert run.transforms.eval[0] == {"CenterCrop": {"size": 227}}
        for described in (run.data.train, run.data.val):
            (options,) = described.values()
            assert (options["validation"], options["fold"]) == (0.25, 1)
        rate, scale = norm_softmax if run.variant.startswith("norm_softmax") else proxy_nca
        for name, lr in {"trunk": 1e-6, "embedder": 1e-6, "metric_loss": rate}.items():
            options = getattr(run.optimizers, name)["RMSprop"]
            assert options == {"lr": lr, "momentum": 0.9, "weight_decay": 5e-5}
        loss = build(run.loss, num_classes=5, embedding_size=12, num_steps=3)
        if run.variant.endswith("+ps"):
            assert (loss.augmenter.alpha, loss.augmenter.mu) == (0.4, 1.0)
            loss = loss.loss
        elif run.variant.endswith("+see"):
            assert loss.embedding_reg_weight == 0.2
            assert loss.embedding_regularizer.augmenter.num_expansions == 8
        softmax = run.variant.startswith("norm_softmax")
        assert (loss.temperature if softmax else loss.softmax_scale) == scale


# ------------------------------------------------------------------------ short runs


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {key: write(tmp_path_factory.mktemp(key)) for key, write in WRITERS.items()}


def on_miniature(name: str, root: Path) -> list[str]:
    """Changes of a settings file, for an epoch of two steps on a miniature set."""
    key = name.split("_")[-1]
    dataset = DATASETS[key].__name__
    parts = ["train", "test"] + ["gallery"] * (key == "inshop")
    parts += ["val"] * name.startswith("reality_check")
    partial = [f"data.{part}.{dataset}.partial=true" for part in parts]
    sizes = {"epochs": 1, "iterations_per_epoch": 2, "batch_size": 4}
    places = {"": sizes} | {
        f"variants.{variant}.": changes.keys() & sizes.keys()
        for variant, changes in settings_of(name)["variants"].items()
    }
    size = [f"{place}{size}={sizes[size]}" for place, own in places.items() for size in own]
    return [f"data.root={root}", *partial, *size, "seeds=[0]", "device=cpu", "data.workers=2"]


def short(name: str, root: Path, *overrides: str):
    """A settings file on a miniature set, of small images that this process reads itself."""
    comparison = loaded(name, *on_miniature(name, root), *overrides)
    for run in comparison.runs:
        run.transforms.train[0]["RandomResizedCrop"]["size"] = 32
        run.transforms.eval[0]["CenterCrop"]["size"] = 32
        run.data.workers = 0
    return comparison


class NoHooks:
    """Records nothing, which takes most of the time of a run this short."""

    def end_of_iteration_hook(self, trainer) -> None:
        assert trainer.losses["total_loss"].isfinite()


def train(parts: Parts) -> Trainer:
    """Train an epoch."""
    trainer = parts.trainer(NoHooks())
    trainer.train()
    return trainer


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", FILES)
def test_each_file_runs_on_a_miniature_set(name, roots, tmp_path):
    key = name.split("_")[-1]
    *others, last = short(name, roots[key]).runs
    splits = load_splits(last.data)
    for run in others:
        train(Parts(run, splits))
    history = execute(last, splits, tmp_path)
    looks = ["val", "test"] if name.startswith("reality_check") else ["test"]
    assert history["split"].tolist() == looks
    test = history.iloc[-1]
    assert test["precision_at_1"] == test["recall_at_1"]
    recalls = [test[f"recall_at_{k}"] for k in RECALL_AT[key]]
    assert recalls == sorted(recalls) and recalls[0] >= 0 and recalls[-1] <= 1
    losses = pd.read_csv(tmp_path / "logs" / "loss_histories.csv")
    assert losses["total_loss"].notna().all()


@pytest.mark.usefixtures("unrendered")
def test_a_file_runs_in_a_process_that_has_others_read(roots, tmp_path):
    """That of In-shop, which reads a gallery, too."""
    changes = [*with_small_trunk("ps_inshop"), *on_miniature("ps_inshop", roots["inshop"])]
    variant = ["--variant", "norm_softmax+ps"]
    main(["run", str(PAPERS / "ps_inshop.yaml"), *variant, *changes, f"results={tmp_path}"])
    (run,) = pd.read_csv(tmp_path / "ps_inshop" / "results.csv").to_dict("records")
    assert run["variant"] == "norm_softmax+ps" and 0 <= run["precision_at_1"] <= 1


def test_two_processes_of_torchrun_have_others_read_for_them(roots, tmp_path):
    changes = [*with_small_trunk("ps_cub"), *on_miniature("ps_cub", roots["cub"])]
    config = str(PAPERS / "ps_cub.yaml")
    command = ["run", config, "--variant", "proxy_nca+ps", f"results={tmp_path}", *changes]
    ranks = [tmp_path / "first", tmp_path / "second"]
    assert forked_processes.torchrun(ranks, forked_processes.command, *command) == [0, 0]
    (run,) = pd.read_csv(tmp_path / "ps_cub" / "results.csv").to_dict("records")
    assert run["variant"] == "proxy_nca+ps" and 0 <= run["precision_at_1"] <= 1


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_scale(frozen, roots):
    option = f"model.freeze_batch_norm={str(frozen).lower()}"
    run = short("ps_cub", roots["cub"], option).runs[0]
    parts = Parts(run, load_splits(run.data))
    before = copied(parts.models["trunk"])
    train(parts)
    after = parts.models["trunk"].state_dict()
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(before[name].equal(after[name]) for name in statistics) == frozen
    assert not before["layers.1.weight"].equal(after["layers.1.weight"])


def in_float16(run) -> Parts:
    """The parts of a run, whose small trunk overflows at the scale that gradients start with."""
    parts = Parts(run, load_splits(run.data))
    assert parts.scalers["scaler"].get_scale() == 2**16
    parts.scalers["scaler"] = torch.amp.GradScaler("cpu", init_scale=8)
    return parts


def largest_gradient(trainer: Trainer) -> float:
    modules = [*trainer.models.values(), *trainer.loss_funcs.values()]
    return max(p.grad.abs().max().item() for module in modules for p in module.parameters())


def test_scaled_gradients_are_clipped_at_their_true_scale(roots):
    clipped, free, full = (
        short("see_cub", roots["cub"], *options).runs[0]
        for options in (
            ["clip_gradient_value=0.01"],
            ["clip_gradient_value=null"],
            ["clip_gradient_value=null", "autocast=false"],
        )
    )
    assert largest_gradient(train(in_float16(clipped))) == pytest.approx(0.01)
    unclipped = largest_gradient(train(Parts(full, load_splits(full.data))))
    assert unclipped > 0.1
    assert largest_gradient(train(in_float16(free))) == pytest.approx(unclipped, rel=0.1)


def test_a_run_in_float16_is_that_in_float32_but_for_rounding(roots):
    changes = []
    for autocast in ("true", "false"):
        options = ["schedulers.trunk=null", f"autocast={autocast}"]
        run = short("see_cub", roots["cub"], *options).runs[0]
        parts = in_float16(run) if run.autocast else Parts(run, load_splits(run.data))
        assert bool(parts.scalers) == run.autocast
        before = copied(parts.models["trunk"])["layers.0.weight"]
        train(parts)
        after = parts.models["trunk"].state_dict()["layers.0.weight"]
        assert after.dtype == torch.float32
        changes.append(after - before)
    half, full = changes
    assert full.abs().max() > 1e-5
    assert not half.equal(full)
    assert (half - full).norm() < 0.1 * full.norm()


def test_a_stopped_run_in_float16_goes_on_at_its_scale(roots, tmp_path):
    run = short("see_cub", roots["cub"], "epochs=2", "clip_gradient_value=null").runs[0]
    splits = load_splits(run.data)

    def stop(epoch: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, splits, tmp_path / "stopped", stop)
    # The scale that gradients start with was too large: it was lowered in each of the two steps.
    saved = files.load(tmp_path / "stopped" / paths.CHECKPOINT)
    assert saved["scalers"]["scaler"]["scale"] == 2**14
    for folder in ("stopped", "whole"):
        execute(run, splits, tmp_path / folder)
    stopped, whole = (
        torch.load(tmp_path / folder / "best.pt", weights_only=True)["trunk"]["layers.0.weight"]
        for folder in ("stopped", "whole")
    )
    assert stopped.equal(whole)
    assert not whole.equal(Parts(run, splits).models["trunk"].state_dict()["layers.0.weight"])


def test_overflown_gradients_take_no_step_and_the_scale_is_kept(roots, tmp_path):
    run = short("see_cub", roots["cub"]).runs[0]
    parts = Parts(run, load_splits(run.data))
    parts.scalers["scaler"] = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    before = copied(parts.models["trunk"])["layers.0.weight"]
    train(parts)
    assert parts.models["trunk"].state_dict()["layers.0.weight"].equal(before)
    assert parts.scalers["scaler"].get_scale() == 2.0**98


# ------------------------------------------------------- trunks of torchvision and timm


def test_the_real_trunk_of_torchvision_trains(roots, tmp_path):
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    random = "weights: null, aux_logits: false, init_weights: false, dropout: 0"
    trunk = f"model.trunk={{TorchvisionTrunk: {{name: googlenet, {random}}}}}"
    embedder = "model.embedder.LinearEmbedder.in_features=1024"
    run = short("ps_cub", roots["cub"], trunk, embedder).runs[0]
    assert len(execute(run, load_splits(run.data), tmp_path)) == 1


@pytest.mark.parametrize("index", [0, 2], ids=["resnet50", "deit_s"])
def test_the_real_trunks_of_timm_have_the_features_that_are_embedded(index):
    pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    variants = read(PAPERS / "see_cub.yaml")["variants"]
    model = list(variants.values())[index]["model"]
    trunk = TimmTrunk(**model["trunk"]["TimmTrunk"], pretrained=False).train()
    width = model["embedder"]["LayerNormEmbedder"]["in_features"]
    assert trunk(torch.zeros(2, 3, 224, 224)).shape == (2, width)


class Network(nn.Module):
    """Stands in for those of torchvision and timm."""

    def __init__(self, fc: nn.Module) -> None:
        super().__init__()
        self.fc = fc

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(images.mean(dim=(2, 3)))


def test_the_classifier_is_left_out(monkeypatch):
    def get_model(name, weights, **options):
        assert (weights, options) == ("DEFAULT", {"drop_rate": 0.1})
        return Network(nn.Linear(3, 7) if name == "good" else nn.Identity())

    def create_model(name, pretrained, num_classes, **options):
        assert (name, pretrained, num_classes, options) == ("good", True, 0, {"drop_rate": 0.1})
        return Network(nn.Identity())

    monkeypatch.setitem(sys.modules, "torchvision.models", SimpleNamespace(get_model=get_model))
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    for trunk in (TorchvisionTrunk, TimmTrunk):
        assert trunk("good", drop_rate=0.1)(torch.rand(2, 3, 4, 4)).shape == (2, 3)
    with pytest.raises(ValueError, match="`name` .* layer `fc`.* got 'bad'"):
        TorchvisionTrunk("bad", drop_rate=0.1)


def test_parts_of_a_network_of_timm_stand_still(monkeypatch):
    def create_model(name, pretrained, num_classes):
        return nn.ModuleDict({"patch_embed": nn.Linear(3, 3), "blocks": nn.Linear(3, 3)})

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    trunk = TimmTrunk("any", frozen=["patch_embed"])
    learning = {name for name, p in trunk.network.named_parameters() if p.requires_grad}
    assert learning == {"blocks.weight", "blocks.bias"}
    with pytest.raises(ValueError, match="`frozen`.*'patch'.*did you mean patch_embed"):
        TimmTrunk("any", frozen=["patch"])


def test_normalised_features_are_embedded():
    embedder = LayerNormEmbedder(in_features=8, embedding_size=3)
    weight, bias = embedder[1].weight, embedder[1].bias
    torch.testing.assert_close(weight @ weight.T, torch.eye(3))
    assert not bias.any()
    features = torch.rand(5, 8)
    assert embedder(features).shape == (5, 3)
    torch.testing.assert_close(embedder(features), embedder(7 * features), atol=1e-3, rtol=0)
    assert len(list(embedder.parameters())) == 2


@pytest.mark.parametrize("dim", [0, 1])
def test_linear_proxies_are_uniform(dim):
    weight = torch.empty(25, 3000) if dim == 0 else torch.empty(3000, 25)
    LinearProxies(dim)(weight)
    assert 0.199 < weight.max() <= 0.2 and -0.2 <= weight.min() < -0.199
    assert weight.norm(dim=dim).mean().item() == pytest.approx(3**-0.5, abs=0.01)
    with pytest.raises(ValueError, match="`dim`.*2"):
        LinearProxies(2)


# ------------------------------------------------------------------- against the paper


@pytest.fixture(scope="module")
def folds(roots, tmp_path_factory) -> list[Path]:
    """Two folders with runs of ps_cars196, of three and two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for fold, seeds in ((0, 3), (1, 2)):
        writing.write_comparison(
            folder / str(fold), {"norm_softmax": None, "norm_softmax+ps": "norm_softmax"}
        )
        for variant, gain in (("norm_softmax", 0.0), ("norm_softmax+ps", 0.02)):
            for seed in range(seeds):
                row = {"variant": variant, "seed": seed, "split": "test", "epoch": 130}
                value = 0.8 + gain + 0.01 * seed + 0.1 * fold
                metrics = {"precision_at_1": value, "recall_at_1": value, "r_precision": 0.3}
                row |= metrics | {"mean_average_precision_at_r": 0.25, "seconds": 1.0}
                run = folder / str(fold) / variant / f"seed_{seed}"
                writing.start(run, Run(variant, seed))
                files.write_table(pd.DataFrame([row]), run / paths.METRICS)
    return [folder / "0", folder / "1"]


def unaligned(text: str) -> str:
    """Return tables without the spaces that align their columns."""
    return re.sub(" +", " ", text)


def test_own_figures_stand_beside_the_published_ones(folds, capsys):
    main(["report", str(folds[0]), "--against-paper", "ps_cars196"])
    text = (folds[0] / "against_paper.md").read_text()
    assert text in capsys.readouterr().out
    text = unaligned(text)
    # The t quantile of two degrees of freedom, 4.303, times 1 over the root of three.
    line = "| norm_softmax | Recall@1 | 83.08 (sd 0.21) | PS, released code, 8 runs |"
    assert f"{line} 81.0 ± 2.5 | -2.1 |" in text
    assert "| norm_softmax+ps | Recall@1 | 84.7 | PS, paper | 83.0 ± 2.5 | -1.7 |" in text
    assert "| proxy_nca | MAP@R | 25.35 (sd 0.18) | PS, released code, 8 runs | | |" in text
    assert "with the models of the last epoch. Mean" in text
    assert "over seeds (norm_softmax 3, norm_softmax+ps 3)" in text


def test_folds_are_averaged_seed_by_seed(folds, capsys):
    main(["report", *map(str, folds), "--against-paper", "ps_cars196"])
    text = (folds[1] / "against_paper.md").read_text()
    # Two seeds are in both folds: 85 and 86, whose interval is 12.71 times 0.71 over root two.
    assert "| PS, paper | 85.5 ± 6.4 | +2.2 |" in unaligned(text)
    assert (folds[0] / "against_paper.md").read_text() == text
    main(["report", *map(str, folds)])
    screen = capsys.readouterr().out
    assert re.search(r"norm_softmax\+ps .* 87\.5 ± 6\.4 ", screen)
    assert "Each seed is a mean over folds." in screen


def test_own_figures_that_nobody_published_are_shown_too():
    summary = pd.DataFrame(
        {"variant": ["resnet50_proxy_anchor"], "recall_at_1": 68.0, "recall_at_1_interval": 0.5}
    )
    line = "| resnet50_proxy_anchor | Recall@1 | | not published | 68.0 ± 0.5 | |"
    assert line in unaligned(table("see_cub", summary)).splitlines()


def test_settings_without_published_figures_are_told(folds):
    with pytest.raises(SystemExit, match="published for 'ps_carss': did you mean ps_cars196"):
        main(["report", str(folds[0]), "--against-paper", "ps_carss"])


def test_published_figures_are_of_variants_that_the_files_have():
    figures = published()
    assert set(figures["settings"]) - {""} == {name for name in FILES if name[0] != "r"}
    for name, rows in figures[figures["settings"].ne("")].groupby("settings"):
        assert set(rows["variant"]) <= set(as_published(name).baselines)
        shown = {f"recall_at_{k}" for k in as_published(name).runs[0].recall_at}
        assert set(rows["metric"]) <= shown | {"r_precision", "mean_average_precision_at_r"}
        assert set(rows["set"]) == {name.split("_")[-1]}
    assert figures["published"].between(24, 100).all()


def test_the_page_has_every_published_figure_and_settings_file():
    page = (ROOT / "docs" / "papers.md").read_text()
    figures = published()
    for name in FILES:
        assert f"benchmarks/configs/papers/{name}.yaml" in page
    for name in set(figures["settings"]) - {""}:
        assert table(name) in page
    others = figures[figures["settings"].eq("") & figures["variant"].str.endswith("+ps")]
    for variant, rows in others.groupby("variant"):
        loss = variant.removesuffix("+ps")
        plain = figures[figures["variant"].eq(loss)].set_index("set")["published"]
        pairs = rows.set_index("set")["published"]
        cells = [f"{plain[key]} → {pairs[key]}" for key in ("cub", "cars196", "sop", "inshop")]
        assert f"| {loss} | {' | '.join(cells)} |" in page
    hyperbolic = figures[figures["variant"].str.endswith("_hyp")]
    for (variant, key), rows in hyperbolic.groupby(["variant", "set"], sort=False):
        assert f"| {variant} | {key} | {' / '.join(map(str, rows['published']))} |" in page
