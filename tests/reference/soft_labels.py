"""PML's proxy losses with soft labels, from their formulas, one row and class at a time.

Their arguments are those of `cases`: PML's default ones, and the options of a case.
"""

import math

import torch
from pytorch_metric_learning import losses

from .order import unit


def soft_label_loss(case, rows, soft_labels, proxies, mined=None):
    """Return the loss of rows [N, D] with soft labels [N, C].

    The loss of a row is the sum over classes of the share of a class times the loss that the row
    has with that label; the mean over rows is divided by the sum of all shares. A mined weight [N]
    multiplies the loss of a row.
    """
    mined = torch.ones(len(rows)) if mined is None else mined
    if case.loss_class is losses.ProxyAnchorLoss:
        return soft_proxy_anchor(rows, soft_labels, proxies, mined)
    total = 0
    for row, shares, weight in zip(rows, soft_labels, mined, strict=True):
        for label in shares.nonzero().flatten().tolist():
            log_softmax = torch.log_softmax(logits(case, row, proxies, label), dim=0)
            total = total - weight * shares[label] * log_softmax[label]
    return total / soft_labels.sum()


def soft_proxy_anchor(rows, soft_labels, proxies, mined, alpha=32, margin=0.1):
    """Return Proxy-Anchor with each exponential multiplied by the share of its row.

    In a proxy of class c a row takes part with y_c as a positive, and with the rest of its shares
    as a negative. A mined weight m multiplies the exponentials by exp(m - 1), as PML has it.
    """
    positive = negative = with_positives = 0
    for label, proxy in enumerate(proxies):
        pulls = pushes = 0
        for row, shares, weight in zip(rows, soft_labels, mined, strict=True):
            cosine, times = unit(row) @ unit(proxy), torch.exp(weight - 1)
            rest = shares.sum() - shares[label]
            pulls = pulls + times * shares[label] * torch.exp(-alpha * (cosine - margin))
            pushes = pushes + times * rest * torch.exp(alpha * (cosine + margin))
        positive = positive + torch.log1p(pulls)
        negative = negative + torch.log1p(pushes)
        with_positives += bool((soft_labels[:, label] > 0).any())
    return positive / with_positives + negative / len(proxies)


def mined_weights(case, indices_tuple, size):
    """Return the weights that PML makes of a mined tuple: how often a row is named, of at most 1.

    Proxy-NCA counts anchors alone.
    """
    named = list(indices_tuple)
    if case.loss_class is losses.ProxyNCALoss:
        named = [named[0]] if len(named) == 3 else [named[0], named[2]]
    counts = torch.bincount(torch.cat(named), minlength=size).double()
    return counts / counts.max()


def logits(case, row, proxies, label):
    """Return what a loss takes the softmax of, [C], for a row of that label."""
    formula = LOGITS[case.loss_class]
    return torch.stack(
        [formula(row, proxy, c == label, **dict(case.options)) for c, proxy in enumerate(proxies)]
    )


def proxy_nca(row, proxy, own, softmax_scale):
    return -softmax_scale * (unit(row) - unit(proxy)).square().sum()


def normalized_softmax(row, proxy, own, temperature=0.05):
    return unit(row) @ unit(proxy) / temperature


def cos_face(row, proxy, own, margin=0.35, scale=64):
    return scale * (unit(row) @ unit(proxy) - margin * own)


def arc_face(row, proxy, own, scale=64):
    return scale * with_angular_margin(unit(row) @ unit(proxy), own)


def sub_center_arc_face(row, centers, own, scale=64):
    return scale * with_angular_margin(max(unit(row) @ unit(center) for center in centers), own)


def with_angular_margin(cosine, own, degrees=28.6):
    if not own:
        return cosine
    angle, margin = torch.acos(cosine), math.radians(degrees)
    if angle <= math.pi - margin:
        return torch.cos(angle + margin)
    return cosine - margin * math.sin(margin)


def soft_triple(row, centers, own, centers_per_class, la=20, gamma=0.1, margin=0.01):
    cosines = torch.stack([unit(row) @ unit(center) for center in centers])
    return la * (torch.softmax(cosines / gamma, dim=0) @ cosines - margin * own)


def large_margin_softmax(row, proxy, own):
    return torch.linalg.vector_norm(proxy) * sphere_face(row, proxy, own)


def sphere_face(row, proxy, own, margin=4):
    cosine = unit(row) @ unit(proxy)
    if own:
        angle = torch.acos(cosine)
        k = math.floor(float(angle) * margin / math.pi)
        cosine = (-1) ** k * torch.cos(margin * angle) - 2 * k
    return torch.linalg.vector_norm(row) * cosine


LOGITS = {
    losses.ProxyNCALoss: proxy_nca,
    losses.NormalizedSoftmaxLoss: normalized_softmax,
    losses.LargeMarginSoftmaxLoss: large_margin_softmax,
    losses.SphereFaceLoss: sphere_face,
    losses.CosFaceLoss: cos_face,
    losses.ArcFaceLoss: arc_face,
    losses.SubCenterArcFaceLoss: sub_center_arc_face,
    losses.SoftTripleLoss: soft_triple,
}
