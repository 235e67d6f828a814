"""Lets augmenters learn from the whole training set."""

from benchmarks.evaluation.retrieval import SharingTester
from benchmarks.training.assembly import Parts
from pml_synthesis import BaseAugmenter


def estimate(parts: Parts) -> None:
    """Give the embeddings of the training images, as they are evaluated, to the augmenters that
    estimate something from them; where there is none, nothing is computed."""
    modules = (module for loss in parts.losses.values() for module in loss.modules())
    augmenters = [
        module
        for module in modules
        if isinstance(module, BaseAugmenter) and module.requires_estimate
    ]
    if not augmenters:
        return
    tester = SharingTester(
        normalize_embeddings=False,
        batch_size=256,
        dataloader_num_workers=parts.run.data.workers,
        data_device=parts.device,
    )
    trunk, embedder = parts.models["trunk"], parts.models.get("embedder")
    embeddings, labels = tester.get_all_embeddings(parts.seen, trunk, embedder)
    for augmenter in augmenters:
        augmenter.estimate(embeddings, labels.squeeze(1))
