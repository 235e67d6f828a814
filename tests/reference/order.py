"""Rows in the order in which draws are handed out: by class, then along a random direction."""

import torch


def in_order(embeddings, labels, direction):
    def key(row):
        return int(labels[row]), float(embeddings[row].detach().double() @ direction)

    return sorted(range(len(labels)), key=key)


def unit(vector):
    return vector / torch.linalg.vector_norm(vector)
