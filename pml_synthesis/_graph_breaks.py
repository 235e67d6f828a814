"""Where torch.compile stops tracing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._compile import _disable_dynamo


def breaks_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let torch.compile break its graph at a function.

    torch's own decorator imports the compiler at the first call, which takes a second and 65 MiB in
    each process: here only a call that is traced does.
    """
    untraced = _disable_dynamo(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return untraced(*args, **kwargs)
        return function(*args, **kwargs)

    return call
