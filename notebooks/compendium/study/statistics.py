# SPDX-License-Identifier: MIT
"""What some methods are told of an expert beside its weights: measured on inputs of its task, without their labels.

- ``fisher``, for Fisher merging: the diagonal of the Fisher information, which is the mean over inputs of the squared
  gradient of log p(label). The label of each input is drawn from the expert's own predictions, so no true one enters.
- ``gram``, for RegMean: the Gram matrices XᵀX of the inputs X of linear layers, over the number of rows of X, so that
  every task weighs the same, however many tokens its inputs have.
- ``inputs``, for ESM: these X themselves. Of more rows than columns the triangular factor stands in for them, which has
  the same XᵀX.

All are in float32. Where the parts of one tensor are given different rows, as the last layer of the mini world asks the
class token alone, all of these count.
"""

from collections import defaultdict

import torch
from jaxtyping import Float32
from torch import Tensor

from compendium.study.adaptation import Encoder, Unlabelled
from compendium.study.layerinputs import layer_inputs
from tsvlib.methods.base import Quantity
from tsvlib.taskvectors import StateDict

# Coefficients are learnt of all tasks together, see ``adaptation``.
COUNTS: dict[Quantity, int] = {"fisher": 200, "gram": 200, "inputs": 32}
"""Inputs of each task that are looked at, the first ones, at most. Fixed before anything was merged by them."""

WAY = 1
"""Of measuring: another number for another way, so that what was kept is not taken for what it gives."""

Found = dict[str, Float32[Tensor, "..."]]


def measure(quantity: Quantity, encoder: Encoder, state: StateDict, task: Unlabelled, seed: int) -> Found:
    """Return one kind of measurement on an expert with weights ``state``, by the names of its tensors.

    ``seed`` drives the draws of labels, and nothing else is random.
    """
    if quantity == "fisher":
        return fisher(encoder, state, task, seed)
    return grams(encoder, state, task) if quantity == "gram" else inputs(encoder, state, task)


def fisher(encoder: Encoder, state: StateDict, task: Unlabelled, seed: int) -> Found:
    """Return the diagonal of the Fisher information, in the shapes of all tensors that an encoder depends on."""
    leaves = {key: _leaf(tensor) for key, tensor in state.items()}
    wanted = {key: leaf for key, leaf in leaves.items() if leaf.requires_grad}
    generator, found = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for n in range(len(task.inputs)):
        logs = (encoder(leaves, task.inputs[n : n + 1]) @ task.head.T).log_softmax(1)[0]
        label = int(torch.multinomial(logs.detach().exp(), 1, generator=generator))
        slopes = torch.autograd.grad(logs[label], list(wanted.values()), allow_unused=True)
        for key, slope in zip(wanted, slopes, strict=True):
            if slope is not None:
                found[key] = found.get(key, torch.zeros_like(slope)) + slope.square()
    return {key: total / len(task.inputs) for key, total in found.items()}


def grams(encoder: Encoder, state: StateDict, task: Unlabelled) -> Found:
    """Return the mean of x xᵀ over all rows x that a linear layer is given, for each."""
    totals, rows = dict[str, Tensor](), defaultdict[str, int](int)
    for given in layer_inputs(encoder, state, task.inputs):
        for key, parts in given.items():
            for x in parts:
                gram = x.float().mT @ x.float()
                totals[key] = totals[key] + gram if key in totals else gram
                rows[key] += len(x)
    return {key: (total / rows[key]).cpu() for key, total in totals.items()}


def inputs(encoder: Encoder, state: StateDict, task: Unlabelled) -> Found:
    """Return what each linear layer is given, rows by columns, or what has the same Gram matrix in fewer rows."""
    parts = defaultdict[str, list[Tensor]](list)
    for given in layer_inputs(encoder, state, task.inputs):
        for key, mine in given.items():
            parts[key] += [x.float().cpu() for x in mine]
    return {key: _shortened(torch.cat(mine)) for key, mine in parts.items()}


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().float().requires_grad_() if tensor.is_floating_point() else tensor


def _shortened(x: Float32[Tensor, "rows columns"]) -> Float32[Tensor, "fewer columns"]:
    rows, columns = x.shape
    found: Tensor = torch.linalg.qr(x, mode="r").R if rows > columns else x
    return found
