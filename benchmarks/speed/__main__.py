"""`make speed`: tables and a picture of what synthesis costs, beside this file."""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from tqdm import tqdm

import pml_synthesis
from benchmarks.speed import per_row
from benchmarks.speed.contenders import (
    DEVICE,
    LOSSES,
    METHODS,
    PAIR_LOSSES,
    Size,
    batch,
    build,
    copying_steps,
    estimated,
    expansion_steps,
    first_steps,
    full_mem_vir,
    hardened_steps,
    joined_steps,
    mem_vir_steps,
    proxy_synthesis_step,
    proxy_synthesis_steps,
)
from benchmarks.speed.measure import medians, peak_memory
from pml_synthesis import (
    BaseAugmenter,
    DenselyAnchoredSampling,
    EmbeddingExpansion,
    EmbeddingMixup,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
)

matplotlib.use("Agg")
RESULTS = Path(__file__).parent / "results"
SMALL, LARGE, HUGE = Size(128, 512, 98), Size(128, 512, 11_318), Size(128, 128, 100_000)
FIRST_FOUR = list(LOSSES)[:4]
Row = dict[str, object]


def main() -> None:
    """Measure everything; write speed.csv, speed.md and cost.png."""
    argparse.ArgumentParser("python -m benchmarks.speed", description=__doc__).parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    RESULTS.mkdir(exist_ok=True)
    table = pd.DataFrame(tqdm(_rows(), desc="speed", unit="row"))
    table.to_csv(RESULTS / "speed.csv", index=False)
    text = f"# Speed\n\n{_setting()}\n\n{_markdown(table)}\n"
    (RESULTS / "speed.md").write_text(text)
    _draw(pd.DataFrame(tqdm(_curves(), desc="curves", unit="point")))
    print(text)


def _rows() -> Iterator[Row]:
    for size in (SMALL, LARGE, HUGE):
        for loss in FIRST_FOUR:
            times = medians(proxy_synthesis_steps(loss, size))
            yield _row("PS step", loss, size, times, "ours", "plain-big")
            yield _row("PS step", loss, size, times, "ours", "bare")
    for loss in list(LOSSES)[4:]:
        times = medians(proxy_synthesis_steps(loss, LARGE))
        yield _row("PS step", loss, LARGE, times, "ours", "plain-big")
    for loss in FIRST_FOUR:
        times = medians(mem_vir_steps(loss, SMALL, num_steps=5, step_gap=10))
        yield _row("MemVir step, N = 5", loss, SMALL, times, "ours", "plain-big")
        yield _row("MemVir step, N = 5", loss, SMALL, times, "ours", "bare")
    for loss in PAIR_LOSSES:
        times = medians(copying_steps(loss, SMALL))
        yield _row("IAA step, M = 3", loss, SMALL, times, "ours", "plain-big")
        yield _row("IAA step, M = 3", loss, SMALL, times, "ours", "bare")
    yield from _joined_rows()
    yield _memory_row()
    yield from _memory_rows()
    yield from _drawing_rows()
    for size in (Size(128, 512, 98), Size(128, 512, 11_318)):
        times = medians(expansion_steps("Proxy-Anchor", size, num_expansions=8))
        yield _row("SEE step, K = 8", "Proxy-Anchor", size, times, "ours", "bare on both")


def _joined_rows() -> Iterator[Row]:
    of_classes = (SMALL.classes, SMALL.dim)
    made: dict[str, tuple[str, Callable[[], BaseAugmenter]]] = {
        "DAS step, T = 3": ("MultiSimilarity", lambda: DenselyAnchoredSampling(*of_classes)),
        "Symmetrical Synthesis step": ("MultiSimilarity", SymmetricalSynthesis),
        "Mixup step": ("norm-softmax", EmbeddingMixup),
    }
    for what, (loss, make) in made.items():
        pairs = loss in PAIR_LOSSES
        bare = PAIR_LOSSES[loss]() if pairs else build(loss, SMALL.classes, SMALL)
        times = medians(joined_steps(bare.to(DEVICE), make().to(DEVICE), SMALL))
        for against in ("plain-big", "bare"):
            yield _row(what, loss, SMALL, times, "ours", against)


def _row(what: str, loss: str, size: Size, times: dict[str, float], ours: str, other: str) -> Row:
    return {
        "what": what,
        "loss": loss,
        "B": size.rows,
        "D": size.dim,
        "C": size.classes,
        "against": other,
        "ours": times[ours],
        "theirs": times[other],
        "unit": "ms",
        "ratio": times[ours] / times[other],
    }


def _memory_row() -> Row:
    peaks = {
        name: peak_memory(partial(proxy_synthesis_step, name, "norm-softmax", LARGE))
        for name in ("ours", "plain-big")
    }
    row = _row("PS peak extra memory", "norm-softmax", LARGE, peaks, "ours", "plain-big")
    return row | {"unit": "MiB"}


def _memory_rows() -> Iterator[Row]:
    for size in (SMALL, LARGE):
        bare = {
            loss: peak_memory(partial(first_steps, loss, None, size))
            for loss in dict.fromkeys(loss for loss, _ in METHODS.values())
        }
        for method, (loss, _) in METHODS.items():
            ours = peak_memory(partial(first_steps, loss, method, size))
            peaks = {"ours": ours, "bare": bare[loss]}
            yield _row(f"{method} memory", loss, size, peaks, "ours", "bare") | {"unit": "MiB"}


def _drawing_rows() -> Iterator[Row]:
    x, y = batch(128, SMALL, SMALL.classes)
    proxies = torch.randn(SMALL.classes, SMALL.dim, device=DEVICE)
    ps, x = ProxySynthesis(), x.detach()
    times = medians(
        {
            "ours": lambda: ps(x, y, proxies),
            "per-row": lambda: per_row.proxy_synthesis(x, y, proxies),
        }
    )
    yield _row("PS augmentation", "", SMALL, times, "ours", "per-row")
    mixup = EmbeddingMixup()
    times = medians({"ours": lambda: mixup(x, y), "per-row": lambda: per_row.embedding_mixup(x, y)})
    yield _row("Mixup augmentation", "", SMALL, times, "ours", "per-row")
    size = Size(180, 512, 90)
    x, y = batch(size.rows, size, size.classes)
    proxies = torch.randn(size.classes, size.dim, device=DEVICE)
    see, x = SphericalEmbeddingExpansion(8, fraction=1.0), x.detach()
    times = medians(
        {
            "ours": lambda: see(x, y, proxies),
            "per-row": lambda: per_row.spherical_embedding_expansion(x, y, proxies, 8),
        }
    )
    yield _row("SEE augmentation, K = 8", "", size, times, "ours", "per-row")
    mem_vir, listed = full_mem_vir(SMALL, 45, 10), per_row.MemVir(45, 10)
    x, y = batch(SMALL.rows, SMALL, SMALL.classes)
    proxies, x = torch.randn(SMALL.classes, SMALL.dim, device=DEVICE), x.detach()
    for _ in range(mem_vir.num_slots):
        listed(x, y, proxies)
    times = medians(
        {"ours": lambda: mem_vir(x, y, proxies), "per-row": lambda: listed(x, y, proxies)}
    )
    yield _row("MemVir augmentation, N = 45", "", SMALL, times, "ours", "per-row")
    iaa, (x, y) = estimated(SMALL), batch(SMALL.rows, SMALL, SMALL.classes)
    x, variances = x.detach(), iaa.corrected
    times = medians(
        {
            "ours": lambda: iaa(x, y),
            "per-row": lambda: per_row.intraclass_adaptive_augmentation(x, y, variances, 3),
        }
    )
    yield _row("IAA augmentation, M = 3", "", SMALL, times, "ours", "per-row")
    yield from _negative_rows()
    yield _sampling_row()


def _sampling_row() -> Row:
    """Two embeddings of each class, as in the release, and a full bank."""
    size = Size(128, 512, 64)
    x, y = batch(size.rows, size, size.classes)
    x = x.detach()
    das = DenselyAnchoredSampling(size.classes, size.dim).to(DEVICE)
    listed = per_row.DenselyAnchoredSampling()
    for _ in range(5):
        das(x, y)
        listed(x, y)
    times = medians({"ours": lambda: das(x, y), "per-row": lambda: listed(x, y)})
    return _row("DAS augmentation, T = 3", "", size, times, "ours", "per-row")


def _negative_rows() -> Iterator[Row]:
    size = Size(128, 512, 32)
    x, y = batch(size.rows, size, size.classes)
    x, expansion, symmetrical = x.detach(), EmbeddingExpansion(2), SymmetricalSynthesis()
    made = {
        "Embedding Expansion augmentation, n = 2": {
            "ours": lambda: expansion(x, y),
            "per-row": lambda: per_row.embedding_expansion(x, y, 2),
        },
        "Symmetrical Synthesis augmentation": {
            "ours": lambda: symmetrical(x, y),
            "per-row": lambda: per_row.symmetrical_synthesis(x, y),
        },
    }
    for what, steps in made.items():
        yield _row(what, "", size, medians(steps), "ours", "per-row")
    times = medians(hardened_steps(size))
    for against in ("bare", "joined"):
        yield _row("Embedding Expansion step, n = 2", "Triplet", size, times, "ours", against)


def _curves() -> Iterator[Row]:
    for classes in (98, 1_000, 11_318, 50_000):
        times = medians(proxy_synthesis_steps("norm-softmax", Size(128, 256, classes)), seconds=3)
        yield from ({"axis": "C", "x": classes, "name": n, "ms": t} for n, t in times.items())
    for rows in (32, 64, 128, 256, 512):
        times = medians(proxy_synthesis_steps("norm-softmax", Size(rows, 256, 5_000)), seconds=3)
        yield from ({"axis": "B", "x": rows, "name": n, "ms": t} for n, t in times.items())
    for expansions in (1, 2, 4, 8, 16):
        steps = expansion_steps("Proxy-Anchor", Size(128, 256, 1_000), expansions)
        times = medians(steps, seconds=3)
        yield from ({"axis": "K", "x": expansions, "name": n, "ms": t} for n, t in times.items())


def _setting() -> str:
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor()
    return (
        "Ratios of medians of forward and backward, measured side by side in one run, everything "
        "of a call included; below 1, ours is faster, or takes less memory. Run on "
        f"{device or platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, pml_synthesis {pml_synthesis.__version__}."
    )


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| what | loss | B, D, C | against | ours | theirs | ratio |", "| --- " * 7 + "|"]
    for row in table.itertuples():
        size = f"{row.B}, {row.D}, {row.C:,}"
        ours, theirs = f"{row.ours:.2f} {row.unit}", f"{row.theirs:.2f} {row.unit}"
        cells = [row.what, row.loss, size, row.against, ours, theirs, f"**{row.ratio:.3g}**"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _draw(points: pd.DataFrame) -> None:
    from matplotlib import pyplot as plt

    titles = {
        "C": "Proxy Synthesis, norm-softmax\nB = 128, D = 256",
        "B": "Proxy Synthesis, norm-softmax\nC = 5,000, D = 256",
        "K": "SEE, Proxy-Anchor\nB = 128, C = 1,000, D = 256",
    }
    blue, orange, grey = "#0072B2", "#D55E00", "#777777"
    colors = {"ours": blue, "plain-big": orange, "bare": grey, "bare on both": orange}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axis, (name, of_axis) in zip(axes, points.groupby("axis", sort=False), strict=True):
        for contender, line in of_axis.groupby("name", sort=False):
            marker = "o" if contender == "ours" else "s"
            axis.plot(line.x, line.ms, marker=marker, label=contender, color=colors[contender])
        axis.set(xscale="log", yscale="log", xlabel=name, title=titles[name])
        axis.set_xticks(of_axis.x.unique(), [f"{x:,}" for x in of_axis.x.unique()])
        axis.minorticks_off()
        axis.legend()
    axes[0].set_ylabel("step [ms]")
    figure.savefig(RESULTS / "cost.png", dpi=120)


if __name__ == "__main__":
    main()
