"""Draws what the methods make, with the library itself: writes SVG files beside this one."""

from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, Polygon, Wedge

from pml_synthesis import (
    DenselyAnchoredSampling,
    EmbeddingExpansion,
    EmbeddingMixup,
    IntraclassAdaptiveAugmentation,
    MemVir,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
    SyntheticBatch,
)

# Okabe and Ito's colours, which colour-blind readers tell apart; what is synthetic is hollow, too.
BLUE, GREEN, RED, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
EMBEDDING, PROXY = {"marker": "o", "s": 70}, {"marker": "*", "s": 420}


def on_circle(*degrees: float) -> torch.Tensor:
    """Return unit vectors in the plane, [N, 2]."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def real(axes: Axes, points: torch.Tensor, color: str, shape: dict) -> None:
    """Draw real embeddings or proxies."""
    x, y = points.reshape(-1, points.shape[-1]).T
    axes.scatter(x, y, color=color, edgecolor="black", linewidth=0.8, zorder=2, **shape)


def synthetic(axes: Axes, points: torch.Tensor, color: str, shape: dict) -> None:
    """Draw synthetic embeddings or proxies."""
    x, y = points.reshape(-1, points.shape[-1]).T
    axes.scatter(x, y, facecolor="white", edgecolor=color, linewidth=2, zorder=3, **shape)


def proxy_synthesis(axes: Axes) -> None:
    """Draw two classes on the circle, and the two that are synthesised between them."""
    embeddings, labels = on_circle(12, 36, 128, 152), torch.tensor([0, 0, 1, 1])
    proxies = on_circle(24, 140)
    ps = ProxySynthesis(seed=59, collect_stats=True)  # draws a lambda that shows well
    batch = ps(embeddings, labels, proxies)

    axes.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=180, color="0.7", zorder=0))
    for label, color in enumerate([BLUE, GREEN]):
        real(axes, embeddings[labels == label], color, EMBEDDING)
        real(axes, proxies[label], color, PROXY)
        write_name(axes, proxies[label], f"class {'ab'[label]}", color)
    mixes = "new class\n{0:.2f} a + {1:.2f} b", "new class\n{1:.2f} a + {0:.2f} b"
    for new, color in enumerate([RED, PURPLE]):
        synthetic(axes, batch.embeddings[batch.labels == 2 + new], color, EMBEDDING)
        synthetic(axes, batch.proxies[new], color, PROXY)
        mix = mixes[new].format(ps.mixing_weight, 1 - ps.mixing_weight)
        write_name(axes, batch.proxies[new], mix, color)
    axes.set(xlim=(-1.5, 1.5), ylim=(0.05, 1.45), title="Proxy Synthesis: new classes between two")


def write_name(axes: Axes, point: torch.Tensor, text: str, color: str) -> None:
    """Write a name outside of the circle, beside a point of it."""
    x, y = (1.17 * point).tolist()
    side = "left" if x > 0 else "right"
    axes.text(x, y, text, color=color, ha=side, va="bottom", fontsize=12)


def spherical_embedding_expansion(axes: Axes) -> None:
    """Draw a sphere from above a proxy: embeddings of its class and synthetic ones."""
    embeddings = torch.tensor([[0.5, 0.0, 0.866], [-0.624, 0.36, 0.694]])
    proxy = torch.tensor([[0.0, 0.0, 1.0]])
    see = SphericalEmbeddingExpansion(num_expansions=2, fraction=1.0, seed=0)
    batch = see(embeddings, torch.tensor([0, 0]), proxy)

    real(axes, proxy[0, :2], BLUE, PROXY)
    real(axes, embeddings[:, :2], BLUE, EMBEDDING)
    for i, color in enumerate([RED, PURPLE]):
        made = batch.embeddings[batch.source == i]
        corners = torch.cat([embeddings[i : i + 1], made])[:, :2]
        radius = float(corners[0].norm())
        axes.add_patch(Circle((0, 0), radius, fill=False, color="0.7", zorder=0))
        axes.add_patch(Polygon(corners, fill=False, edgecolor=color, linestyle=":", zorder=1))
        synthetic(axes, made[:, :2], color, EMBEDDING)
    axes.text(0.09, 0, "proxy", color=BLUE, va="center", fontsize=11)
    axes.set(xlim=(-1.1, 1.1), ylim=(-0.8, 0.8), title="SEE: new embeddings around a proxy")


def mem_vir(axes: Axes) -> None:
    """Draw two classes that drift along the circle, and where they were two and four steps ago."""
    labels = torch.tensor([0, 0, 1, 1])
    sizes = {"num_classes": 2, "embedding_size": 2, "batch_size": 4}
    augmenter = MemVir(**sizes, num_steps=2, step_gap=1, warm_up_steps=0)
    for step in range(5):
        drift = 11.0 * (4 - step)
        embeddings = on_circle(4 + drift, 20 + drift, 102 + drift, 118 + drift)
        proxies = on_circle(12 + drift, 110 + drift)
        batch = augmenter(embeddings, labels, proxies)

    axes.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=180, color="0.7", zorder=0))
    for label, color in enumerate([BLUE, GREEN]):
        real(axes, embeddings[labels == label], color, EMBEDDING)
        real(axes, proxies[label], color, PROXY)
        write_name(axes, proxies[label], f"class {'ab'[label]}", color)
    for new, color in enumerate([RED, PURPLE, ORANGE, SKY]):
        synthetic(axes, batch.embeddings[batch.labels == 2 + new], color, EMBEDDING)
        synthetic(axes, batch.proxies[new], color, PROXY)
        steps_ago, label = 2 * (new // 2 + 1), "ab"[new % 2]
        write_name(axes, batch.proxies[new], f"{label}, {steps_ago} steps ago", color)
    axes.set(xlim=(-1.7, 1.6), ylim=(-0.05, 1.45), title="MemVir: classes as they were")


def embedding_mixup(axes: Axes) -> None:
    """Draw two classes on the circle, and mixes of them with the shares of their labels."""
    embeddings, labels = on_circle(5, 35, 120, 165), torch.tensor([0, 0, 1, 1])
    mixup = EmbeddingMixup(seed=6)  # draws a lambda that shows well
    batch = mixup(embeddings, labels)

    axes.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=180, color="0.7", zorder=0))
    for label, color in enumerate([BLUE, GREEN]):
        real(axes, embeddings[labels == label], color, EMBEDDING)
        middle = embeddings[labels == label].mean(dim=0)
        write_name(axes, middle / middle.norm(), f"class {'ab'[label]}", color)
    for half in range(len(batch) // 2):
        point, share = batch.embeddings[half], float(batch.weights[half])
        members = embeddings[[int(batch.source[half]), int(batch.partner[half])]]
        axes.plot(*members.T, color="0.8", linestyle=":", zorder=0)
        of_a = share if batch.labels[half] == 0 else 1 - share
        synthetic(axes, point[None], PURPLE, EMBEDDING)
        wedge = {"center": (0.8 * point).tolist(), "r": 0.07, "linewidth": 0, "zorder": 2}
        axes.add_patch(Wedge(theta1=90, theta2=90 + 360 * of_a, color=BLUE, **wedge))
        axes.add_patch(Wedge(theta1=90 + 360 * of_a, theta2=450, color=GREEN, **wedge))
    axes.set(xlim=(-1.5, 1.5), ylim=(-0.05, 1.4), title="Embedding Mixup: soft labels between two")


def embedding_expansion(axes: Axes) -> None:
    """Draw a sphere from above: two classes, the points on their chords, the hardest pair."""
    above = torch.tensor([[-0.75, -0.35], [0.75, -0.35], [-0.15, 0.75], [0.05, 0.2]])
    height = (1 - above.square().sum(dim=1, keepdim=True)).sqrt()
    embeddings, labels = torch.cat([above, height], dim=1), torch.tensor([0, 0, 1, 1])
    batch = EmbeddingExpansion(num_points=2, seed=0)(embeddings, labels)

    axes.add_patch(Circle((0, 0), 1, fill=False, color="0.7", zorder=0))
    for first in (0, 2):
        chord = above[first : first + 2]
        axes.plot(*chord.T, color="0.7", linestyle=":", zorder=0)
    draw_negatives(axes, embeddings, labels, batch)
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), title="Embedding Expansion: points on chords")


def symmetrical_synthesis(axes: Axes) -> None:
    """Draw two classes on the circle, the reflections of their embeddings, the hardest pair."""
    embeddings, labels = on_circle(22, 42, 112, 138), torch.tensor([0, 0, 1, 1])
    batch = SymmetricalSynthesis(role="negative", seed=0)(embeddings, labels)
    axes.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=180, color="0.7", zorder=0))
    draw_negatives(axes, embeddings, labels, batch)
    axes.set(xlim=(-1.2, 1.2), ylim=(-0.1, 1.2), title="Symmetrical Synthesis: reflections")


def draw_negatives(
    axes: Axes, embeddings: torch.Tensor, labels: torch.Tensor, batch: SyntheticBatch
) -> None:
    """Draw two classes with their points, the closest real pair between them and the closest of
    all."""
    groups = []
    for label, color in enumerate([BLUE, GREEN]):
        own, made = embeddings[labels == label], batch.embeddings[batch.labels == label]
        real(axes, own[:, :2], color, EMBEDDING)
        synthetic(axes, made[:, :2], color, EMBEDDING)
        groups.append((own, torch.cat([own, made])))
    for (first, second), style in zip(zip(*groups, strict=True), (":", "-"), strict=True):
        nearest = torch.cdist(first, second)
        i, j = divmod(int(nearest.argmin()), len(second))
        ends = torch.stack([first[i], second[j]])[:, :2]
        axes.plot(*ends.T, color=RED, linestyle=style, linewidth=1.5, zorder=1)


def intraclass_adaptive_augmentation(axes: Axes) -> None:
    """Draw a sphere from above: two classes that vary in one direction each, and copies."""
    a = torch.tensor([[-0.7, -0.28], [-0.45, -0.33], [-0.2, -0.26]])
    b = torch.tensor([[0.5, -0.35], [0.45, 0.05], [0.52, 0.45]])
    points = torch.cat([a, b])
    heights = (1 - points.square().sum(dim=1, keepdim=True)).sqrt()
    embeddings, labels = torch.cat([points, heights], dim=1), torch.arange(6) // 3
    iaa = IntraclassAdaptiveAugmentation(2, 3, num_copies=3, num_neighbors=0, seed=0)
    iaa.estimate(embeddings, labels)
    batch = iaa(embeddings, labels)

    axes.add_patch(Circle((0, 0), 1, fill=False, color="0.7", zorder=0))
    for label, color in enumerate([BLUE, GREEN]):
        real(axes, embeddings[labels == label, :2], color, EMBEDDING)
        synthetic(
            axes, batch.embeddings[batch.labels == label, :2], [RED, PURPLE][label], EMBEDDING
        )
    for source, copy in zip(embeddings[batch.source], batch.embeddings, strict=True):
        axes.plot(*torch.stack([source, copy])[:, :2].T, color="0.7", linewidth=1, zorder=1)
    axes.text(-0.45, -0.55, "class a", color=BLUE, ha="center", fontsize=12)
    axes.text(0.78, -0.3, "class b", color=GREEN, ha="center", fontsize=12)
    axes.set(xlim=(-1.15, 1.15), ylim=(-0.85, 0.85), title="IAA: copies that vary as their class")


def densely_anchored_sampling(axes: Axes) -> None:
    """Draw two classes on the circle, copies of their embeddings, and their differences."""
    embeddings, labels = on_circle(25, 55, 115, 155), torch.tensor([0, 0, 1, 1])
    # Far more than the released settings, with which copies and sources look the same.
    far = {"num_copies": 5, "num_channels": 1, "scale_range": (0.8, 1.25), "shift": 0.3}
    batch = DenselyAnchoredSampling(2, 2, **far, seed=2)(embeddings, labels)

    axes.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=180, color="0.7", zorder=0))
    for label, color in enumerate([BLUE, GREEN]):
        own, made = embeddings[labels == label], batch.embeddings[batch.labels == label]
        axes.annotate(
            "", own[0].tolist(), own[1].tolist(), arrowprops={"arrowstyle": "<->", "color": color}
        )
        synthetic(axes, made, color, EMBEDDING)
        real(axes, own, color, EMBEDDING)
        middle = own.mean(dim=0)
        write_name(axes, middle / middle.norm(), f"class {'ab'[label]}", color)
    axes.set(xlim=(-1.5, 1.5), ylim=(-0.05, 1.4), title="DAS: copies, scaled and shifted")


def draw(*methods: Callable[[Axes], None]) -> Figure:
    """Draw methods, two side by side."""
    columns = min(2, len(methods))
    rows = len(methods) // columns
    size = 5.5 * columns, 4 * rows
    figure, places = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    for axes, method in zip(places.flat, methods, strict=True):
        method(axes)
        axes.set_aspect("equal")
        axes.axis("off")
    return figure


def main(folder: Path) -> None:
    """Write a picture of each method, of the two best known, and of all."""
    pyplot.rcParams["svg.hashsalt"] = "the same file from the same script"
    for file_name, methods in {
        "proxy_synthesis": [proxy_synthesis],
        "spherical_embedding_expansion": [spherical_embedding_expansion],
        "densely_anchored_sampling": [densely_anchored_sampling],
        "embedding_expansion": [embedding_expansion],
        "embedding_mixup": [embedding_mixup],
        "intraclass_adaptive_augmentation": [intraclass_adaptive_augmentation],
        "mem_vir": [mem_vir],
        "symmetrical_synthesis": [symmetrical_synthesis],
        "methods": [proxy_synthesis, spherical_embedding_expansion],
        # New classes; embeddings of the classes that there are; those that harden negatives.
        "family": [
            *(proxy_synthesis, mem_vir),
            *(spherical_embedding_expansion, embedding_mixup),
            *(intraclass_adaptive_augmentation, densely_anchored_sampling),
            *(embedding_expansion, symmetrical_synthesis),
        ],
    }.items():
        path = folder / f"{file_name}.svg"
        draw(*methods).savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(__file__).parent)
