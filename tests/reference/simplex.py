"""The centres of the Max-Mahalanobis distribution (Pang, Du, Zhu, ICML 2018), by recursion."""

import math

import torch


def simplex(dim):
    """Return K + 1 unit vectors in K dimensions with pairwise inner products of -1/K."""
    vertices = torch.zeros(dim + 1, dim, dtype=torch.float64)
    vertices[0, 0] = 1
    for i in range(1, dim + 1):
        for j in range(i):
            if j < dim:
                inner = float(vertices[i] @ vertices[j])
                vertices[i, j] = -(1 + inner * dim) / (vertices[j, j] * dim)
        if i < dim:
            vertices[i, i] = math.sqrt(abs(1 - float(vertices[i] @ vertices[i])))
    return vertices
