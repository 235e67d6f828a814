"""DAS (Liu et al., ECCV 2022), by dictionaries of classes and loops."""

import torch

from pml_synthesis import SyntheticBatch

from .order import in_order, unit

EXAMPLES = {
    # As narrow as the narrowest embeddings of the common tests.
    "constant": {"num_channels": 1, "bank_size": 3},
    "with gradients": {
        "num_copies": 2,
        "num_channels": 3,
        "scale_range": (0.5, 2.0),
        "bank_size": 7,
        "shift": 0.4,
        "detach": False,
        "normalize": False,
    },
}


def synthesize(das, embeddings, labels, proxies, generator):
    """Return the synthetic batch, all draws taken from a generator."""
    size = len(labels)
    order = drawn_order(embeddings, labels, generator)
    counts, banks = memory_of(das)
    remember(counts, banks, das, embeddings, labels, order)
    draws = torch.rand(
        das.num_copies, size, das.num_channels, dtype=torch.float64, generator=generator
    )
    ages = torch.randint(2**62, (das.num_copies, size), generator=generator)
    rows, source = [], []
    for copy in range(das.num_copies):
        for place, row in enumerate(order):
            label = int(labels[row])
            x = embeddings[row].detach() if das.detach else embeddings[row]
            rows.append(
                moved(das, x, counts[label], banks[label], draws[copy, place], ages[copy, place])
            )
            source.append(row)
    source = torch.tensor(source, dtype=torch.int64)
    return SyntheticBatch(
        torch.stack(rows) if rows else embeddings[:0],
        labels[source],
        (embeddings if proxies is None else proxies)[:0],
        source,
        keeps_norms=not das.normalize,
    )


def moved(das, x, counts, bank, draws, age):
    """Return one copy of an embedding, scaled and shifted."""
    low, high = das.scale_range
    scale = torch.ones_like(x)
    for channel, draw in zip(largest(counts, das.num_channels), draws, strict=True):
        scale[channel] = low + (high - low) * draw
    shift = bank[-1 - int(age) % len(bank)].to(x) if bank else torch.zeros_like(x)
    copy = scale * x + das.shift * shift
    return unit(copy) if das.normalize else copy


def memory_of(das):
    """Return the counts of channels and the bank of each class, the newest difference last."""
    counts = {label: row.tolist() for label, row in enumerate(das.channel_counts)}
    banks = {}
    for label, bank in enumerate(das.differences):
        start = len(bank) - int(das.num_differences[label])
        banks[label] = [difference.clone() for difference in bank[start:]]
    return counts, banks


def remember(counts, banks, das, embeddings, labels, order):
    """Add a batch to the memory, class by class."""
    x = embeddings.detach()
    for row in order:
        for channel in largest(x[row].tolist(), das.num_channels):
            counts[int(labels[row])][channel] += 1
    for label in labels.unique().tolist():
        members = [row for row in order if labels[row] == label]
        new = [x[a] - x[b] for a in members for b in members]
        new = [difference for difference in new if difference.any()]
        banks[label] = (banks[label] + new)[-das.bank_size :]


def drawn_order(embeddings, labels, generator):
    """Return the embeddings class by class, those of a class in a random order."""
    direction = torch.randn(
        embeddings.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    canonical = in_order(embeddings, labels, direction)
    places = torch.randperm(len(labels), generator=generator).tolist()
    return sorted((canonical[place] for place in places), key=lambda row: int(labels[row]))


def largest(values, number):
    """Return the indices of the largest values; of equal ones the first."""
    return sorted(range(len(values)), key=lambda index: -values[index])[:number]
