"""Training steps as the ranks of a distributed run take them, and as one process takes them."""

import os

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch.nn.parallel import DistributedDataParallel

import reference
from pml_synthesis import (
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)

NUM_CLASSES, DIM, STEPS = 5, 10, 2


def see():
    return SphericalEmbeddingExpansion(3, 0.5, detach=False)


def proxy_anchor(**options):
    return losses.ProxyAnchorLoss(NUM_CLASSES, DIM, **options)


LOSSES = {
    "bare": proxy_anchor,
    "ps": lambda: SynthesisLoss(proxy_anchor(), ProxySynthesis(mu=1.5)),
    "see": lambda: SynthesisLoss(losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM), see()),
    "both": lambda: SynthesisLoss(proxy_anchor(), Compose([ProxySynthesis(mu=0.5), see()])),
    "regularizer with see": lambda: proxy_anchor(embedding_regularizer=SynthesisRegularizer(see())),
    "regularizer with ps": lambda: losses.SoftTripleLoss(
        NUM_CLASSES, DIM, embedding_regularizer=SynthesisRegularizer(ProxySynthesis())
    ),
    "both hooks": lambda: SynthesisLoss(
        proxy_anchor(embedding_regularizer=SynthesisRegularizer(see())), ProxySynthesis()
    ),
    **{
        augmenter.__name__: lambda augmenter=augmenter: SynthesisLoss(
            proxy_anchor(), reference.build(augmenter, NUM_CLASSES, DIM)
        )
        for augmenter in reference.PUBLIC_AUGMENTERS
    },
    "bare pair loss": losses.ContrastiveLoss,
    **{
        f"{augmenter.__name__} in a pair loss": lambda augmenter=augmenter: SynthesisLoss(
            losses.ContrastiveLoss(), reference.build(augmenter, NUM_CLASSES, DIM)
        )
        for augmenter in reference.PUBLIC_AUGMENTERS
        if not augmenter.requires_proxies
    },
}

REMEMBERING = {
    f"{augmenter.__name__} {example}": lambda augmenter=augmenter, example=example: SynthesisLoss(
        proxy_anchor(), reference.build(augmenter, NUM_CLASSES, DIM, example)
    )
    for augmenter in reference.PUBLIC_AUGMENTERS
    for example in reference.reference_of(augmenter).EXAMPLES
    if reference.has_memory(reference.build(augmenter, NUM_CLASSES, DIM, example))
}


def rows_of(step):
    """All rows of a step: unequal class counts, in no order."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 6, dtype=torch.float64, generator=generator)
    y = (NUM_CLASSES * torch.rand(16, generator=generator) ** 2).long()
    return x, y


def train(name, rank=0, world_size=1, num_steps=STEPS, broadcast_buffers=True):
    """Return for each step the loss, the trunk's gradient and those of the loss's parameters."""
    # Each rank has a seed of its own for the augmenter, and the same weights.
    torch.manual_seed(rank)
    loss = (LOSSES | REMEMBERING)[name]().double()
    torch.manual_seed(99)
    trunk = torch.nn.Linear(6, DIM).double()
    proxies = list(loss.parameters())
    for parameter in proxies:
        torch.nn.init.normal_(parameter)
    parameters = [trunk.weight, *proxies]
    if world_size > 1:
        trunk = DistributedDataParallel(trunk)
        loss = DistributedLossWrapper(loss)
        if proxies:  # It refuses what has none.
            loss = DistributedDataParallel(loss, broadcast_buffers=broadcast_buffers)
    steps = []
    for step in range(num_steps):
        x, y = rows_of(step)
        share = slice(rank * len(x) // world_size, (rank + 1) * len(x) // world_size)
        for parameter in parameters:
            parameter.grad = None
        value = loss(trunk(x[share]), y[share])
        value.backward()
        steps.append([value.detach(), *(parameter.grad.clone() for parameter in parameters)])
    return steps


def start_ranks(train_all, world_size, folder, *arguments):
    """Return what each rank makes of its number, the number of ranks, and the arguments."""
    torch.multiprocessing.start_processes(
        _as_rank,
        (world_size, str(folder), train_all, arguments),
        nprocs=world_size,
        # Forked off one that has imported what is set in this process, if anything is.
        start_method="forkserver",
    )
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(world_size)]


def train_each(rank, world_size):
    """Train with each loss as one of the ranks."""
    return {name: train(name, rank, world_size) for name in LOSSES}


def remember(rank, world_size, num_steps):
    """Train with each memory, buffers broadcast by DistributedDataParallel or not."""
    return {
        f"{name} {how}": train(name, rank, world_size, num_steps, how)
        for name in REMEMBERING
        for how in (True, False)
    }


def _as_rank(rank, world_size, folder, train_all, arguments):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size
    )
    torch.save(train_all(rank, world_size, *arguments), f"{folder}/{rank}.pth")
    # None leaves while another still talks to it. What is left of gloo's threads may abort a
    # process that ends in the ordinary way, and all that is wanted of it is in the file.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)
