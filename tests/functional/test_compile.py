"""The functions of (tensors, draws) compile without a break in the graph."""

import shutil

import pytest
import torch

from pml_synthesis.functional import (
    class_distinct_pairs,
    class_matching_pairs,
    class_sharing_pairs,
    inner_points,
    mix_units,
    random_frame,
    random_signs,
    reflect,
    row_order,
    simplex_vertices,
    spherical_expansion,
)

B, D, K = 6, 8, 3


def arguments():
    draws = torch.Generator().manual_seed(0)
    x, w = torch.randn(B, D, generator=draws), torch.randn(B, D, generator=draws)
    frame, signs = random_frame(K - 1, D - 2, draws), random_signs(B, D, draws)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    unit = torch.nn.functional.normalize(w)
    beside = torch.nn.functional.normalize(x - (x * unit).sum(1, keepdim=True) * unit)
    direction = torch.randn(D, dtype=torch.float64, generator=draws)
    return {
        mix_units: (unit, beside, 0.3),
        inner_points: (x, w, 2),
        reflect: (x, w),
        simplex_vertices: (K,),
        spherical_expansion: (x, w, frame, signs),
        row_order: (x, labels, direction),
        class_distinct_pairs: (labels, torch.tensor([1, 2, 0]), torch.randperm(B)),
        class_matching_pairs: (labels, torch.randperm(B)),
        class_sharing_pairs: (labels, torch.arange(B)),
    }


PAIRINGS = class_distinct_pairs, class_matching_pairs, class_sharing_pairs


@pytest.mark.parametrize("function", arguments(), ids=lambda function: function.__name__)
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiles_as_one_graph(function, backend):
    if backend == "inductor" and shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler, and none is here")
    if function in PAIRINGS and torch.__version__ < (2, 3):
        pytest.skip("torch 2.2 compiles no sizes that depend on labels")
    given = arguments()[function]
    # How many pairs there are depends on the labels.
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(function, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(*given), function(*given))
    torch._dynamo.reset()
