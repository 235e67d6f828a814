"""The geometry as pure functions of (tensors, draws)."""

from .chord import inner_points
from .expansion import spherical_expansion
from .interpolation import mix_units
from .ordering import row_order
from .orthonormal import random_frame, random_signs
from .pairing import class_distinct_pairs, class_matching_pairs, class_sharing_pairs
from .reflection import reflect
from .simplex import simplex_vertices

__all__ = [
    "class_distinct_pairs",
    "class_matching_pairs",
    "class_sharing_pairs",
    "inner_points",
    "mix_units",
    "random_frame",
    "random_signs",
    "reflect",
    "row_order",
    "simplex_vertices",
    "spherical_expansion",
]
