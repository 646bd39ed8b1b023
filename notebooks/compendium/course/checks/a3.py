# SPDX-License-Identifier: MIT
"""Checks of the assignment on interference: similarity maps, STI, whitening and the Procrustes error."""

import torch
from torch import Tensor

from compendium.course import answers, sentences
from compendium.course.inputs import Inputs, double
from compendium.course.trying import Mistakes, Trial, attempt


def check_side_by_side(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(blocks)`` is one matrix with the columns of all blocks, task after task."""
    inputs = Inputs(seed)
    for n_tasks, k in ((2, 3), (3, 2), (4, 1)):
        rows = n_tasks * k + inputs.whole(1, 3)
        blocks = [inputs.orthonormal(rows, k) for _ in range(n_tasks)]
        wide = double(*blocks)
        whole = torch.cat(wide, 1)
        mistakes: Mistakes = [
            ("the blocks stand one above the other; they belong side by side, along dimension 1", torch.cat(wide, 0)),
            (
                "this is padded with zero columns, which are no vectors of any task",
                torch.cat([whole, whole.new_zeros(rows, rows - n_tasks * k)], 1),
            ),
            ("the columns of the tasks alternate; those of one task belong together", torch.stack(wide, 2).flatten(1)),
            ("the blocks are summed; keep the vectors of each task", torch.stack(wide).sum(0)),
            ("the blocks are stacked along a new dimension; one matrix is wanted", torch.stack(wide)),
            ("the order of the tasks is reversed", torch.cat(wide[::-1], 1)),
        ]
        attempt(function, "side_by_side", Trial(f"{n_tasks} blocks of {rows} x {k}", (blocks,), whole, mistakes))


def check_similarity(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(x)`` is XᵀX, the inner products of all pairs of columns."""
    inputs = Inputs(seed)
    for given, rows, columns in inputs.shapes():
        x = inputs.matrix(rows, columns)
        (wide,) = double(x)
        gram = wide.mT @ wide
        lengths = wide.norm(dim=0)
        mistakes: Mistakes = [
            ("this is X Xᵀ, which compares rows; vectors are the columns", wide @ wide.mT),
            (
                "the identity is subtracted; the map shows what each vector has in common with itself, too",
                gram - torch.eye(columns),
            ),
            ("the signs are lost; keep them", gram.abs()),
            (
                "the inner products are divided by the lengths; singular vectors have length one already",
                gram / torch.outer(lengths, lengths),
            ),
            ("this is squared entry by entry", gram.square()),
        ]
        attempt(function, "similarity", Trial(given, (x,), gram, mistakes))


def check_sti(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(u, s, v)`` is the sum of the absolute entries of (UᵀU - I) Σ (VᵀV - I)."""
    inputs = Inputs(seed)
    for n_tasks, k, further in ((2, 3, (0, 0)), (3, 2, (4, 1)), (2, 2, (1, 5))):
        rows, columns = (n_tasks * k + more for more in further)
        u, v = (torch.cat([inputs.orthonormal(size, k) for _ in range(n_tasks)], 1) for size in (rows, columns))
        s = torch.tensor([inputs.number(1.2, 3) for _ in range(n_tasks * k)])
        given = f"{n_tasks} tasks with {k} components of a {rows} x {columns} matrix"
        answer = float(answers.interference(u, s, v).abs().sum())
        attempt(function, "sti", Trial(given, (u, s, v), answer, _mistakes_of_sti(u, s, v, n_tasks)))


def _mistakes_of_sti(u: Tensor, s: Tensor, v: Tensor, n_tasks: int) -> Mistakes:
    found = answers.interference(u, s, v)
    one_sided = "the identity is subtracted on one side alone"
    mistakes: list[tuple[str, object]] = [
        ("this is the Frobenius norm, with squares and a root; sum the absolute entries", float(found.norm())),
        (
            "this is the largest column sum, the induced 1-norm; sum the absolute entries of all columns",
            float(found.abs().sum(0).max()),
        ),
        ("this is the spectral norm; sum the absolute entries", float(torch.linalg.matrix_norm(found, 2))),
        ("the absolute value is missing: interference of either sign disturbs", float(found.sum())),
        ("this is the mean of the absolute entries; sum them", float(found.abs().mean())),
        ("this is divided by the number of tasks; interference adds up", float(found.abs().sum()) / n_tasks),
        (
            "the identity is not subtracted; a task does not disturb itself",
            _total(answers.interference(u, s, v, left=0, right=0)),
        ),
        (one_sided, _total(answers.interference(u, s, v, left=0))),
        (one_sided, _total(answers.interference(u, s, v, right=0))),
        (sentences.SQUARED, _total(answers.interference(u, s.square(), v))),
        (
            "the singular values are missing; strong tasks disturb more than weak ones",
            _total(answers.interference(u, torch.ones_like(s), v)),
        ),
    ]
    if len(v) == len(s):
        mistakes.append(
            ("V Vᵀ stands in the place of VᵀV; vectors are the columns", _total(answers.interference(u, s, v.mT)))
        )
    return mistakes


def check_whiten(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(x)`` is X (XᵀX)^(-1/2), for x that is tall or square."""
    inputs = Inputs(seed)
    # The tall one first: columns of a square matrix become dependent when their mean is taken out.
    for given, rows, columns in list(inputs.shapes())[1::-1]:
        x = inputs.matrix(rows, columns)
        (wide,) = double(x)
        # Signs of eigenvectors may differ between the types in which they are computed.
        spectra = [torch.linalg.eigh(each.mT @ each) for each in (x, wide)]
        centred = wide - wide.mean(0)
        mistakes: Mistakes = [
            ("this is X (XᵀX)⁻¹; it is the inverse of the root that is wanted", wide @ answers.power(x, -1.0)),
            ("this is X (XᵀX)^(1/2), without the inverse", wide @ answers.power(x, 0.5)),
            ("this is (XᵀX)^(-1/2) alone; multiply X by it", answers.power(x, -0.5)),
            *(
                ("the last factor Qᵀ of (XᵀX)^(-1/2) = Q Λ^(-1/2) Qᵀ is missing", wide @ (q * values.rsqrt()).double())
                for values, q in spectra
            ),
            (
                "this is X (XᵀX)^(-1/4): the root of an eigenvalue of XᵀX is a singular value already",
                wide @ answers.power(x, -0.25),
            ),
            (
                "the mean is taken out first, as statisticians do; here X stays as it is",
                centred @ answers.power(centred, -0.5),
            ),
            (sentences.GRAM_SCHMIDT, torch.linalg.qr(wide).Q),
            ("this is X as it was", wide),
        ]
        hint = "an eigenvalue that is zero has no inverse: take XᵀX, the smaller of the two products"
        attempt(function, "whiten", Trial(given, (x,), answers.polar(x), mistakes, hint))


def check_procrustes_error(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(x)`` is the Frobenius distance between x and its polar factor."""
    inputs = Inputs(seed)
    for given, rows, columns in list(inputs.shapes())[:2]:
        x = inputs.matrix(rows, columns)
        (wide,) = double(x)
        moved = answers.polar(x) - wide
        gram = wide.mT @ wide
        mistakes: Mistakes = [
            ("the square root is missing: this is the squared distance", float(moved.square().sum())),
            (
                "this is the sum of the absolute entries; the Frobenius norm has squares and a root",
                float(moved.abs().sum()),
            ),
            (
                "this is the largest singular value; the Frobenius norm counts them all",
                float(torch.linalg.matrix_norm(moved, 2)),
            ),
            (
                "this is the nuclear norm, the sum of |d - 1|; square first and take the root of the sum",
                float(torch.linalg.svdvals(moved).sum()),
            ),
            (
                "this is the norm of XᵀX - I; it is the distance between X and its polar factor that is wanted",
                float((gram - torch.eye(columns)).norm()),
            ),
            ("this is the norm of the polar factor; subtract X first", float(answers.polar(x).norm())),
        ]
        attempt(function, "procrustes_error", Trial(given, (x,), float(moved.norm()), mistakes))


def _total(x: Tensor) -> float:
    return float(x.abs().sum())
