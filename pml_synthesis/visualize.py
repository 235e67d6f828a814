"""Pictures of what is synthesised, and of how near embeddings are to proxies."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import check_batch, expect
from .augmenters import BaseAugmenter, SyntheticBatch
from .functional.precision import working_dtype
from .functional.unit_vectors import unit

try:
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
except ImportError as error:
    raise ImportError(
        "pml_synthesis.visualize draws with matplotlib, which is not installed: pip install "
        "matplotlib, or this package with its extra `plot`."
    ) from error

__all__ = ["COLOURS", "plot_cosines", "plot_synthesis", "proxy_cosines"]

#: Okabe and Ito's colours, which colour-blind readers can tell apart, without their yellow, which
#: is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_GREY = "0.45"
_BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False}
_BINS = torch.linspace(-1, 1, 81).tolist()
# From the lowest to the topmost. Stars are proxies, and what is synthesised is hollow.
_MARKERS = {
    "embedding": ("o", 18),
    "synthetic embedding": ("o", 18),
    "synthetic proxy": ("*", 90),
    "proxy": ("*", 220),
}


def plot_synthesis(
    embeddings: Tensor,
    labels: Tensor,
    proxies: Tensor | None,
    synthetic: BaseAugmenter | SyntheticBatch | None = None,
    *,
    projection: str | None = None,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw embeddings, the proxies of their classes, and what is synthesised from them.

    A synthetic embedding has the colour of the embedding that it came from, and a line to it. Only
    directions are drawn: all vectors are made unit vectors first. An augmenter shows what its next
    call in training would draw, and keeps its seed, step and statistics.

    Args:
        embeddings: [B, D].
        labels: of any integer type, [B], from 0 to C - 1, of seven classes at most.
        proxies: [C, D], or [C, K, D] where a class has K centres, such as
            :func:`~pml_synthesis.losses.proxies_of` gives; or None. Those of the classes in
            `labels` are drawn.
        synthetic: an augmenter, or what one has made of these embeddings, or None for neither.
        projection: `"sphere"`, by default for D = 3; `"pca"`, to the plane of the two principal
            components of embeddings and proxies, by default otherwise; `"tsne"`, by scikit-learn.
        class_names: of each class, [C]. Default: "class 0" and so on.
        ax: where to draw; flat axes for a sphere, too. Default: a new figure.

    Returns:
        The axes; `.figure` is the figure.

    Raises:
        ValueError: if an argument does not have this form, or a value is NaN or infinite.

    Example:
        >>> from pml_synthesis import ProxySynthesis
        >>> x, y, p = torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2]), torch.randn(3, 16)
        >>> ax = plot_synthesis(x, y, p, ProxySynthesis())
        >>> [artist.get_label() for artist in ax.collections]
        ['embedding', 'synthetic embedding', 'synthetic proxy', 'proxy']
        >>> plt.close(ax.figure)
    """
    host_labels = check_batch(embeddings, labels, proxies)
    shape = tuple(embeddings.shape)
    expect(shape[0] >= 1 and shape[1] >= 2, "embeddings", "of shape [1, 2] at least", shape)
    colour_of = _colours(host_labels)
    names = _names(list(colour_of), class_names)
    shown = embeddings[:0] if proxies is None else proxies[list(colour_of)]
    real = _unit_on_host("embeddings", embeddings), _unit_on_host("proxies", shown)

    batch = _as_batch(synthetic, embeddings, labels, proxies)
    vectors = {
        "embedding": real[0],
        "synthetic embedding": _unit_on_host("synthetic", batch.embeddings),
        "synthetic proxy": _unit_on_host("synthetic", batch.proxies),
        "proxy": real[1],
    }
    of_rows = [colour_of[label] for label in host_labels.tolist()]
    classes = None if proxies is None else len(proxies)
    parents = batch.parent_labels(labels.to(batch.labels), classes).tolist()
    centers = len(vectors["proxy"]) // len(colour_of)
    colours = {
        "embedding": of_rows,
        "synthetic embedding": [colour_of.get(parent, _GREY) for parent in parents],
        "synthetic proxy": [_GREY] * len(vectors["synthetic proxy"]),
        "proxy": [colour for colour in colour_of.values() for _ in range(centers)],
    }
    if projection is None:
        projection = "sphere" if shape[1] == 3 else "pca"
    places = _project(vectors, projection)
    ax = _prepared_axes(ax, projection)
    source = batch.source.cpu()
    made = source >= 0
    if made.any():
        _draw_lines(ax, places["embedding"][source[made]], places["synthetic embedding"][made])
    _draw_points(ax, places, colours)
    _add_legend(ax, dict(zip(names, colour_of.values(), strict=True)))
    return ax


@torch.no_grad()
def proxy_cosines(embeddings: Tensor, labels: Tensor, proxies: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cosines of embeddings to the proxy of their class, and to the nearest other one.

    Args:
        embeddings: [B, D].
        labels: of any integer type, [B], from 0 to C - 1.
        proxies: of at least two classes, [C, D], or [C, K, D] where a class has K centres, of which
            the nearest counts. For classes without proxies, their mean embeddings may stand here.

    Returns:
        Two tensors [B].

    Raises:
        ValueError: if an argument does not have this form.

    Example:
        >>> proxy_cosines(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), torch.eye(2))
        (tensor([1.]), tensor([0.]))
    """
    expect(proxies is not None, "proxies", "a tensor [C, D] or [C, K, D]", proxies)
    check_batch(embeddings, labels, proxies)
    expect(len(proxies) >= 2, "proxies", "of at least two classes", tuple(proxies.shape))
    dtype = working_dtype(embeddings, proxies)
    rows = unit(embeddings.to(dtype))
    centers = unit(proxies.to(rows)).reshape(len(proxies), -1, rows.shape[1])
    cosines = torch.einsum("bd,ckd->bck", rows, centers).amax(dim=2)
    own = labels.to(rows.device, torch.int64).unsqueeze(1)
    others = cosines.scatter(1, own, -math.inf)
    return cosines.gather(1, own).squeeze(1), others.amax(dim=1)


def plot_cosines(own: Tensor, other: Tensor, *, ax: Axes | None = None) -> Axes:
    """Draw how the cosines of :func:`proxy_cosines` are distributed, with their medians.

    The bins are always the same ones, so that pictures can be compared: of a model before and after
    training, or with a method and without.

    Args:
        own: cosines of embeddings to their own proxies, [B].
        other: cosines to the nearest other ones, [B].
        ax: where to draw. Default: a new figure.

    Returns:
        The axes; `.figure` is the figure.

    Raises:
        ValueError: if they are no cosines, or there are none.

    Example:
        >>> ax = plot_cosines(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.5]))
        >>> plt.close(ax.figure)
    """
    looks: dict[str, dict[str, Any]] = {
        "own proxy": {"color": COLOURS[0], "histtype": "stepfilled"},
        "nearest other proxy": {"color": COLOURS[1], "histtype": "step"},
    }
    both = _cosines_on_host("own", own), _cosines_on_host("other", other)
    if ax is None:
        ax = plt.subplots(figsize=(6, 3), layout="constrained")[1]
    for (name, look), cosines in zip(looks.items(), both, strict=True):
        shares = torch.full_like(cosines, 100 / len(cosines)).tolist()
        label = f"{name}\nmedian {float(cosines.median()):.2f}"
        ax.hist(cosines.tolist(), _BINS, weights=shares, label=label, **look)
    ax.set_xlabel("cosine to a proxy")
    ax.set_ylabel("embeddings [%]")
    ax.legend(**_BESIDE)
    return ax


def _cosines_on_host(argument: str, cosines: Tensor) -> Tensor:
    values = cosines.detach().to("cpu", torch.float64)
    # Rounding may lead a little way out.
    valid = values.ndim == 1 and len(values) > 0 and bool((values.abs() < 1.01).all())
    expect(valid, argument, "cosines, of shape [B]", cosines)
    return values.clamp(-1, 1)


def _colours(labels: Tensor) -> dict[int, str]:
    """Return the colour of each class that is there."""
    classes, most = labels.unique().tolist(), len(COLOURS)
    fitting = (
        f"of at most {most} classes, as many as there are colours that all readers can tell apart "
        f"(take some of the rows, such as embeddings[labels < {most}])"
    )
    expect(len(classes) <= most, "labels", fitting, len(classes))
    return dict(zip(classes, COLOURS, strict=False))


def _names(classes: list[int], class_names: Sequence[str] | None) -> list[str]:
    if class_names is None:
        return [f"class {label}" for label in classes]
    enough = len(class_names) > classes[-1]
    expect(enough, "class_names", f"a name for each class up to {classes[-1]}", class_names)
    # Names of folders may have bytes that are no text, which no font draws.
    return [class_names[label].encode(errors="replace").decode() for label in classes]


def _as_batch(
    synthetic: Any, embeddings: Tensor, labels: Tensor, proxies: Tensor | None
) -> SyntheticBatch:
    if synthetic is None:
        return SyntheticBatch.empty(embeddings)
    if isinstance(synthetic, BaseAugmenter):
        # A copy, so that nothing is recorded; in eval mode it takes no step, and waits for no other
        # process of a distributed run.
        with torch.no_grad():
            made: SyntheticBatch = copy.deepcopy(synthetic).eval()(embeddings, labels, proxies)
        return made
    known = isinstance(synthetic, SyntheticBatch)
    expect(known, "synthetic", "an augmenter, a SyntheticBatch or None", synthetic)
    batch: SyntheticBatch = synthetic
    width, sources = batch.embeddings.shape[1], batch.source.tolist()
    same = width == embeddings.shape[1]
    expect(same, "synthetic", f"as wide as the embeddings, {embeddings.shape[1]}", width)
    inside = all(-1 <= row < len(embeddings) for row in sources)
    made_of = f"made of the {len(embeddings)} embeddings that are given"
    expect(inside, "synthetic", made_of, f"the sources {sources}")
    return batch


def _unit_on_host(argument: str, vectors: Tensor) -> Tensor:
    """Return unit vectors on the host, float64 [N, D], of [N, D] or [C, K, D]."""
    values = vectors.detach().to("cpu", torch.float64)
    expect(bool(values.isfinite().all()), argument, "finite", "NaN or infinite values")
    return unit(values).reshape(-1, values.shape[-1])


def _project(vectors: dict[str, Tensor], projection: str) -> dict[str, Tensor]:
    """Return places [N, 3] of vectors [N, D]: two coordinates, and the depth towards the viewer."""
    everything = torch.cat(list(vectors.values()))
    # What is synthesised does not turn the picture.
    real = torch.cat([vectors["embedding"], vectors["proxy"]])
    if projection == "sphere":
        width = everything.shape[1]
        expect(width == 3, "projection", f"'pca' or 'tsne' for a width of {width}", projection)
        places = everything @ _view_from(real.mean(dim=0))
    elif projection == "pca":
        center = real.mean(dim=0)
        places = (everything - center) @ _principal_axes(real - center)
    else:
        expect(projection == "tsne", "projection", "'sphere', 'pca' or 'tsne'", projection)
        from sklearn.manifold import TSNE  # Takes its time to import.

        perplexity = min(30, (len(everything) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, random_state=0)
        places = torch.from_numpy(tsne.fit_transform(everything.numpy()))
    places = torch.nn.functional.pad(places, (0, 3 - places.shape[1]))
    sizes = [len(rows) for rows in vectors.values()]
    return dict(zip(vectors, places.split(sizes), strict=True))


def _view_from(direction: Tensor) -> Tensor:
    """Return the directions to the right, upwards and to the viewer, [3, 3], in columns."""
    # From somewhere, also where everything cancels out.
    viewer = unit(direction + 1e-9)
    right = unit(torch.linalg.cross(torch.eye(3).to(viewer)[viewer.abs().argmin()], viewer))
    return torch.stack([right, torch.linalg.cross(viewer, right), viewer], dim=1)


def _principal_axes(centered: Tensor) -> Tensor:
    """Return the two directions of largest variance, [D, 2], their largest components positive."""
    axes = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, [-1, -2]]
    return axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()


def _prepared_axes(ax: Any, projection: str) -> Any:
    """Return axes, the given ones or new ones, made ready for a projection."""
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")[1]
    expect(ax.name != "3d", "ax", "flat axes, for spheres too", ax)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    if projection == "sphere":
        _draw_sphere(ax)
    if projection == "pca":
        ax.set_xlabel("first principal component")
        ax.set_ylabel("second principal component")
    if projection == "tsne":
        ax.set_xlabel("t-SNE: neighbours count, distances do not")
    return ax


def _draw_sphere(ax: Any) -> None:
    """Draw the half of a unit sphere that is to be seen, with meridians and parallels."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 61)
    meridians, parallels = np.sin(angles[::10]), angles[::10]
    look = {"color": "0.85", "linewidth": 0.6, "zorder": 0}
    ax.plot(np.outer(np.cos(angles), meridians), np.sin(angles), **look)
    ax.hlines(np.sin(parallels), -np.cos(parallels), np.cos(parallels), **look)
    ax.set_axis_off()


def _draw_lines(ax: Any, starts: Tensor, ends: Tensor) -> None:
    points = torch.stack([starts, ends, torch.full_like(starts, math.nan)], dim=1).flatten(0, 1)
    ax.plot(*points[:, :2].T.numpy(), color="0.7", linewidth=0.5, zorder=1)


def _draw_points(ax: Any, places: dict[str, Tensor], colours: dict[str, list[str]]) -> None:
    for order, (kind, (marker, size)) in enumerate(_MARKERS.items(), start=2):
        if len(places[kind]) == 0:
            continue
        x, y, depth = places[kind].T.numpy()
        ax.scatter(
            *(x, y, size),
            marker=marker,
            facecolors="white" if kind.startswith("synthetic") else colours[kind],
            edgecolors="white" if kind == "proxy" else colours[kind],
            linewidths=0.8,
            # On the far side of the sphere.
            alpha=np.where(depth < 0, 0.3, 1.0),
            zorder=order,
            label=kind,
        )


def _add_legend(ax: Any, colour_of: dict[str, str]) -> None:
    """Say beside the axes which colour is which class, and which marker is what."""
    handles = [_handle(name, "o", 30, color=colour) for name, colour in colour_of.items()]
    drawn = [points.get_label() for points in ax.collections]
    for kind, (marker, size) in _MARKERS.items():
        if kind in drawn:
            face = "white" if kind.startswith("synthetic") else _GREY
            handles.append(_handle(kind, marker, size, color=_GREY, markerfacecolor=face))
    legend = ax.legend(handles=handles, **_BESIDE)
    for text in legend.get_texts():
        text.set_parse_math(False)  # A class may be called "$x^$".


def _handle(label: str, marker: str, size: float, **look: Any) -> Line2D:
    # Lines count marker sizes in lengths, points in areas.
    return Line2D([], [], linestyle="", label=label, marker=marker, markersize=size**0.5, **look)
