"""Weight clustering: the weights of each layer share a few values, found by one-dimensional k-means.

Source: Han et al. 2016, Deep Compression (https://arxiv.org/abs/1510.00149), with its linear start. The network
still computes with FP32 tensors of full size; it is its stored artifact that becomes small (`protos.packing`).
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.networks.layers import weights

BINS = 4096
"""k-means runs on a histogram: exact to a 4096th of a layer's range, and as fast for 25 million weights as for 25."""


def share_values(network: nn.Module, clusters: int) -> nn.Module:
    """Returns a copy in which each weight tensor holds at most `clusters` values; zeros stay zeros."""
    shared = copy.deepcopy(network)
    for weight in weights(shared).values():
        values = weight.detach()
        values.copy_(torch.from_numpy(nearest(values.numpy(), clusters)))
    return shared


def nearest(values: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    """Replaces each value by the mean of its cluster. Exact zeros, if any, are a cluster of their own."""
    result = values.copy()
    nonzero = values != 0
    free, count = values[nonzero], clusters - (not nonzero.all())
    if len(np.unique(free)) > count:
        result[nonzero] = _means(free, count)
    return result


def _means(values: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans  # imported where it is needed: it takes seconds

    counts, edges = np.histogram(values, BINS)
    filled = counts > 0
    middles, clusters = ((edges[1:] + edges[:-1]) / 2)[filled, None], min(clusters, int(filled.sum()))
    start = np.linspace(values.min(), values.max(), clusters)[:, None]
    means = KMeans(clusters, init=start, n_init=1, max_iter=1000, tol=0).fit(middles, sample_weight=counts[filled])
    centers = np.sort(means.cluster_centers_.ravel())
    members = np.searchsorted((centers[1:] + centers[:-1]) / 2, values)
    sizes = np.maximum(np.bincount(members, minlength=clusters), 1)
    exact: NDArray[np.float32] = (np.bincount(members, values, clusters) / sizes).astype(np.float32)
    return exact[members]
