"""Finds the reference of each public augmenter, and builds examples of it, by their names."""

import importlib
import inspect

import torch

import pml_synthesis
from pml_synthesis import BaseAugmenter, Compose

PUBLIC_AUGMENTERS = [
    public
    for name in pml_synthesis.__all__
    if isinstance(public := getattr(pml_synthesis, name), type)
    and issubclass(public, BaseAugmenter)
    and public not in (BaseAugmenter, Compose)
]


def module_name(augmenter):
    """Return the name that the module of an augmenter, its reference, test and page share."""
    return augmenter.__module__.rpartition(".")[2]


def reference_of(augmenter):
    """Return the module here that is named like the module of an augmenter."""
    return importlib.import_module(f".{module_name(augmenter)}", __package__)


def build(augmenter, num_classes, embedding_size, example=None, num_centers=None, **options):
    """Build an example, by default the first one, with the sizes that its constructor asks for."""
    examples = reference_of(augmenter).EXAMPLES
    arguments = examples[example] if example else next(iter(examples.values()))
    sizes = {
        "num_classes": num_classes,
        "embedding_size": embedding_size,
        "num_centers": num_centers,
    }
    asked = inspect.signature(augmenter).parameters
    sizes = {name: size for name, size in sizes.items() if name in asked}
    return augmenter(**sizes | arguments | options)


def has_memory(augmenter):
    """Tell whether an augmenter, or a part of it, remembers anything over steps."""
    counting = any(getattr(part, "counters", ()) for part in augmenter.modules())
    return counting or any(True for _ in augmenter.buffers())


def fill_memory(augmenter, batches):
    """Give batches to an augmenter if it has a memory, and return it."""
    if augmenter.requires_estimate:
        augmenter.estimate(
            torch.cat([embeddings for embeddings, _, _ in batches]),
            torch.cat([labels for _, labels, _ in batches]),
        )
    if has_memory(augmenter):
        with torch.no_grad():
            for embeddings, labels, proxies in batches:
                augmenter(embeddings, labels, proxies)
    return augmenter


def synthesize(augmenter, embeddings, labels, proxies=None):
    """Return the batch that an augmenter makes in its next step."""
    reference = reference_of(type(augmenter)).synthesize
    return reference(augmenter, embeddings, labels, proxies, augmenter._generator())
