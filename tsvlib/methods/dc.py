# SPDX-License-Identifier: MIT
"""DC-Merge (Zhang et al., arXiv 2603.06242, 2026): TSV-Merge that lets the tasks vote on what each direction holds.

For T task matrices with r singular values, of which each gives its k = r/T leading components U_i, S_i, V_i:

1. U and V, all U_i and all V_i side by side, become U⊥ and V⊥ with orthonormal columns, as in TSV-Merge.
2. The core of task i is M_i = U⊥ᵀ (U_i S_i V_iᵀ) V⊥, of size Tk x Tk; its largest entries by magnitude stay.
3. For each entry the sign of the sum over tasks is elected, and the entries that have it are averaged, as in TIES.
4. Of the core that this makes, only the T blocks of size k x k on the diagonal count. The update is U⊥ M V⊥ᵀ.

This is the method for full fine-tuning as in the authors' code, which keeps one entry in a thousand and leaves the
singular values as they are; the paper describes a smoothing of these as well, and the code applies it to adapters only.
Where T does not divide r, that code pads the cores with zeros to r x r, and counts these as entries to keep a share of;
here cores have Tk rows. A task that has fewer than k components, or none, holds zeros in place of the others.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.layers import Layer
from tsvlib.linalg import Factors
from tsvlib.methods import tsv
from tsvlib.methods.base import Binding, layerwise

SHARE = 0.001
"""How much of each core the authors keep."""

TIE = 1e-6
"""Relative distance to the last entry kept within which others stay too, since rounding alone may set them apart."""


def dc_merge(layer: Layer) -> Tensor:
    """Return DC-Merge, with a thousandth of the entries of each core, and the mean of what TSV-Merge averages."""
    return _voted(layer, SHARE)


def dc_merge_keeping(share: float) -> Binding:
    """Return the binding of DC-Merge with another share of the entries of each core, rounded down to at least one.

    InputError when the share is not above 0 and up to 1.
    """
    linalg.kept_rank(1, share)
    return layerwise(lambda layer: _voted(layer, share))


def _voted(layer: Layer, share: float) -> Tensor:
    if tsv.is_averaged(layer):
        return layer.mean()
    k = linalg.kept_rank(min(layer.shape), 1 / layer.n_tasks)
    kept = tsv.significant(layer.factors(k))
    if not kept:
        return torch.zeros(layer.shape, device=layer.device)
    u, s, vh = tsv.together(kept)
    left, right = linalg.orthogonalise(u).double(), linalg.orthogonalise(vh).double()
    inner = Factors(left.mT @ u.double(), s.double(), vh.double() @ right.mT)
    entries = linalg.kept_rank((layer.n_tasks * k) ** 2, share)
    core = _core(inner, [len(factors.s) for factors in kept], entries, torch.finfo(s.dtype).eps)
    return (left @ core @ right).to(s.dtype)


def _core(inner: Factors, counts: Sequence[int], entries: int, eps: float) -> Float64[Tensor, "size size"]:
    """Return the core that tasks with so many components each agree on.

    Of one task after the other the whole core is made, and what it holds in the blocks on the diagonal is kept.
    """
    owner = torch.repeat_interleave(torch.tensor(counts)).to(inner.s.device)
    inside, held = owner[:, None] == owner, []
    for task in range(len(counts)):
        mine = owner == task
        own = Factors(inner.u[:, mine], inner.s[mine], inner.vh[mine])
        noise = len(owner) * eps * float(own.s[0])
        held.append(_largest(own.product(), entries, noise, inside))
    core = torch.zeros_like(inside, dtype=torch.float64)
    core[inside] = _elected(torch.stack(held), len(owner) * eps)
    return core


def _largest(
    core: Float64[Tensor, "size size"], entries: int, noise: float, inside: Bool[Tensor, "size size"]
) -> Float64[Tensor, " inside"]:
    """Return what lies ``inside`` of a core of which only the largest entries stay, if they are more than noise."""
    sizes = core.abs()
    last = torch.topk(sizes.flatten(), min(entries, sizes.numel())).values[-1]
    return core.masked_fill(sizes < max((1 - TIE) * float(last), noise), 0)[inside]


def _elected(held: Float64[Tensor, "tasks inside"], eps: float) -> Float64[Tensor, " inside"]:
    """Return the mean of the entries that have the sign of their sum, and zero where they cancel but for rounding."""
    total = held.sum(0)
    total = total.masked_fill(total.abs() <= eps * held.abs().sum(0), 0)
    agreeing = held.sign() * total.sign() > 0
    return (held * agreeing).sum(0) / agreeing.sum(0).clamp_min(1)
