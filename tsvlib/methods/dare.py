# SPDX-License-Identifier: MIT
"""DARE with task arithmetic (Yu et al., arXiv 2311.03099, 2023): drop most of each task vector, rescale what is left.

Every entry of every task vector, matrix or not, is dropped with probability p, independently of all others, and what
stays is divided by 1 - p, which leaves its expectation as it was. Then the task vectors are added up.

Chance is keyed by content: whether an entry stays depends on a seed, the digest of its expert's task vector, the name
of its tensor and its place there, and so neither on the order of experts or tensors, nor on other experts, files,
devices or threads. Experts that are equal lose the same entries. One that is multiplied by a number loses others.
"""

import hashlib
import math

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from tsvlib import progress
from tsvlib.checkpoints.layout import canonical, memory
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.methods.base import Binding, Merge
from tsvlib.precision import plain, type_name

DROPPED = 0.9
"""The share that the paper drops first of all; of its largest models even 0.99."""


def dare(suite: Suite) -> Merge:
    """Return DARE of a suite that drops nine entries in ten, with seed 0; ``dropping`` makes the same with others."""
    return dropping(DROPPED)(suite)


def dropping(share: float, seed: int = 0) -> Binding:
    """Return the binding of DARE that drops each entry with probability ``share``; with 0 it is task arithmetic.

    InputError when that is not at least 0 and below 1.
    """
    if not 0 <= share < 1:
        raise InputError(f"{share} is no share of entries to drop; choose one from 0 up to, but without, 1.")

    def bind(suite: Suite) -> Merge:
        names = digests(suite)

        def merge(layer: Layer) -> Tensor:
            # In float64 such sums are practically exact, so that no bit depends on the order of tasks.
            total = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
            for expert, change in layer.numbered_changes():
                stays = kept(seed, names[expert], layer.key, math.prod(suite.shapes[layer.key]), share)
                total.add_(change * _part(stays, layer), alpha=1 / (1 - share))
            return total.to(suite.dtype)

        return merge

    return bind


def digests(suite: Suite) -> list[str]:
    """Return the hexadecimal SHA-256 of what each expert changed, by the names of tensors, in one pass over a suite.

    Tensors that it left as they were do not count, and neither does the order in which a suite names them.
    """
    found = [hashlib.sha256() for _ in range(suite.n_tasks)]
    with progress.track(len(suite.shapes), "telling experts apart", delay=5.0) as bar:
        for key in sorted(suite.shapes):
            for expert, change in suite.changes(key):
                # Adding zero makes a zero of minus zero, which is no other change.
                values = plain(change.cpu()) + 0.0
                found[expert].update(canonical([key, type_name(values.dtype), list(values.shape)]).encode())
                found[expert].update(memory(values))
            bar.update()
    return [digest.hexdigest() for digest in found]


def kept(seed: int, digest: str, key: str, size: int, share: float) -> Bool[Tensor, " size"]:
    """Return which of the ``size`` entries of the tensor ``key`` of an expert stay when a ``share`` is dropped.

    One with a smaller share keeps all that one with a larger share does. The i-th number of Philox, a generator that
    counts, decides about the i-th entry.
    """
    stream = hashlib.sha256(canonical([seed, digest, key]).encode()).digest()
    # Raw numbers, because only these are promised to stay the same in all versions of NumPy.
    numbers = np.random.Philox(key=int.from_bytes(stream[:16], "little")).random_raw(size)
    return torch.from_numpy(numbers >= int(share * 2**64))


def _part(stays: Bool[Tensor, " size"], layer: Layer) -> Bool[Tensor, "*shape"]:
    """Return what concerns a layer of a mask of its whole tensor."""
    return stays.reshape(max(1, layer.n_parts), *layer.shape)[layer.part].to(layer.device)
