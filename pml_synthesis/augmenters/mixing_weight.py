"""How much two embeddings count in a mix of them."""

from __future__ import annotations

import math
import random

import torch
from torch import Generator


def draw_mixing_weight(alpha: float, dtype: torch.dtype, generator: Generator) -> float:
    r"""Draw :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`, kept apart from 1/2 by rounding.

    A mix of any two unit vectors, which is at least :math:`|1 - 2 \lambda|` long, is then longer
    than its rounding errors.

    Args:
        alpha: positive.
        dtype: of the vectors that are mixed.
        generator: on the host.
    """
    weight = _draw_beta(alpha, generator)
    shortest = 4 * torch.finfo(dtype).eps
    return 0.5 + math.copysign(max(abs(weight - 0.5), shortest / 2), weight - 0.5)


def _draw_beta(alpha: float, generator: Generator) -> float:
    draws = random.Random(int(torch.randint(2**62, (), generator=generator)))
    # Above, it is 1/2 to the last digit of float32, and betavariate may search without an end.
    alpha = min(alpha, 1e12)
    weight = draws.betavariate(alpha, alpha)
    # A very small alpha lets both of its gamma variables be 0, of which betavariate makes 0.
    return weight if draws.random() < 0.5 else 1 - weight
