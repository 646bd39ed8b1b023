# SPDX-License-Identifier: MIT
"""Checks of the assignment on two tasks in the plane: angle, task matrix, Procrustes, STI in closed form."""

import math

import torch

from compendium.course import answers, sentences
from compendium.course.inputs import Inputs, double
from compendium.course.trying import Mistakes, Trial, attempt

DEGREES = 0.1
"""Tolerance of an angle: rounding to float32 moves one that is nearly zero by some hundredths of a degree."""


def check_angle(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(a, b)`` is the angle in degrees, 0 to 90, between the lines along two vectors."""
    inputs = Inputs(seed)
    for degrees, size in ((110.0, 2), (35.0, 2), (155.0, 4), (60.0, 5), (90.0, 3), (0.0, 3)):
        turned = math.radians(degrees + (inputs.number(-8, 8) if 0 < degrees != 90 else 0))
        a, other = inputs.orthonormal(size, 2).mT
        # Lengths below one first, so that the product of two vectors is the cosine of some other angle.
        lengths = (0.5, 0.9) if size == 2 else (1.5, 2.0)
        b = (math.cos(turned) * a + math.sin(turned) * other) * lengths[1]
        given = f"two vectors of size {size}, {math.degrees(turned):.0f} degrees apart"
        hint = "rounding can make a cosine a little larger than one, so clamp it first"
        found = min(turned, math.pi - turned)
        mistakes = _mistakes_of_angle(math.cos(turned), lengths[0] * lengths[1])
        trial = Trial(
            given, (a * lengths[0], b), math.degrees(found), mistakes, hint, DEGREES / max(1, math.degrees(found))
        )
        attempt(function, "angle", trial)


def _mistakes_of_angle(cosine: float, lengths: float) -> Mistakes:
    undivided = max(-1.0, min(1.0, cosine * lengths))
    return [
        ("this is the angle in radians; math.degrees makes degrees of it", math.acos(abs(cosine))),
        ("this is the angle in radians; math.degrees makes degrees of it", math.acos(cosine)),
        (
            "this is the angle between the arrows; singular vectors have no sign, so take the absolute cosine",
            math.degrees(math.acos(cosine)),
        ),
        ("this is the cosine itself; the angle is its inverse, math.acos", abs(cosine)),
        ("this is the cosine itself; the angle is its inverse, math.acos", cosine),
        (
            "this is the inverse of the sine; the product of two unit vectors is a cosine",
            math.degrees(math.asin(abs(cosine))),
        ),
        (
            "the product is not divided by both lengths, and so is no cosine yet",
            math.degrees(math.acos(abs(undivided))),
        ),
        ("the product is not divided by both lengths, and so is no cosine yet", math.degrees(math.acos(undivided))),
    ]


def check_task_matrix(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(s, u, v)`` is the task matrix s u vᵀ of rank one."""
    inputs = Inputs(seed)
    for rows, columns in ((2, 2), (inputs.whole(4, 6), 3), (3, inputs.whole(4, 6))):
        s, u, v = inputs.number(1.5, 3), inputs.unit(rows), inputs.unit(columns)
        wide_u, wide_v = double(u, v)
        outer = torch.outer(wide_u, wide_v)
        mistakes: list[tuple[str, object]] = [
            (sentences.SWAPPED_SIDES, s * outer.mT),
            (sentences.NO_SINGULAR_VALUES, outer),
            (sentences.SQUARED, s**2 * outer),
            (
                "this is a number, the inner product; a column times a row is the outer product",
                s * float((wide_u * wide_v[:rows]).sum()) if rows == columns else None,
            ),
            (
                "this is the product entry by entry; a column times a row is the outer product",
                s * wide_u * wide_v if rows == columns else None,
            ),
        ]
        given = f"directions of sizes {rows} and {columns}"
        attempt(function, "task_matrix", Trial(given, (s, u, v), s * outer, mistakes))


def check_procrustes(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(x)`` is the closest matrix to a tall x whose columns are orthonormal."""
    inputs = Inputs(seed)
    for kind, rows, columns in (("square", 2, 2), ("tall", inputs.whole(3, 5), 2), ("tall", inputs.whole(6, 8), 4)):
        x = inputs.matrix(rows, columns)
        (wide,) = double(x)
        # Signs of singular vectors may differ between the types in which they are computed.
        pairs = [(p, qh) for p, _, qh in (torch.linalg.svd(each, full_matrices=False) for each in (x, wide))]
        mistakes: list[tuple[str, object]] = [
            ("this is x as it was; leave out the middle factor D of the SVD", wide),
            *(("this is P alone; multiply by Qᵀ, without which columns stand for no task", p) for p, _ in pairs),
            *((sentences.TRANSPOSED_V, p @ qh.mT) for p, qh in pairs),
            ("this is the transpose of the answer, Q Pᵀ", answers.polar(x).mT),
            (sentences.GRAM_SCHMIDT, answers.gram_schmidt(x)),
            (sentences.GRAM_SCHMIDT, torch.linalg.qr(wide).Q),
            ("the columns have length one, but are not yet orthogonal to each other", wide / wide.norm(dim=0)),
            ("this is X (XᵀX)⁻¹; it is the inverse of the root that is wanted", wide @ answers.power(wide, -1.0)),
        ]
        attempt(function, "procrustes", Trial(f"a {kind} {rows} x {columns} matrix", (x,), answers.polar(x), mistakes))


def check_sti_of_two(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(c, d, s1, s2)`` is the STI of two tasks of rank one, |c d| (s1 + s2).

    That is the sum of the absolute entries of (UᵀU - I) Σ (VᵀV - I), where c and d are the cosines between the left and
    between the right singular vectors.
    """
    inputs = Inputs(seed)
    c, d = abs(inputs.cosine()), abs(inputs.cosine())
    for left, right in ((c, d), (-c, d), (-d, -c), (0.0, d), (1.0, -1.0)):
        s1, s2 = inputs.number(2, 3), inputs.number(1.2, 1.8)
        given = f"cosines {left:.2f} and {right:.2f}, singular values {s1:.2f} and {s2:.2f}"
        trial = Trial(
            given, (left, right, s1, s2), abs(left * right) * (s1 + s2), _mistakes_of_sti(left, right, s1, s2)
        )
        attempt(function, "sti_of_two", trial)


def _mistakes_of_sti(c: float, d: float, s1: float, s2: float) -> Mistakes:
    product = abs(c * d)
    u, v = (torch.tensor([[1.0, cosine], [cosine, 1.0]], dtype=torch.float64) for cosine in (c, d))
    sigma = torch.diag(torch.tensor([s1, s2], dtype=torch.float64))
    return [
        ("the absolute value is missing: interference of either sign disturbs", c * d * (s1 + s2)),
        ("this is the Frobenius norm, with squares and a root; sum the absolute entries", product * math.hypot(s1, s2)),
        (
            "this is the largest column sum, the induced 1-norm; sum the absolute entries of all columns",
            product * max(s1, s2),
        ),
        ("the singular values are missing; strong tasks disturb more than weak ones", 2 * product),
        (sentences.SQUARED, product * (s1**2 + s2**2)),
        (
            "the singular values are multiplied; multiply the three matrices and look at where each of them lands",
            product * s1 * s2,
        ),
        (
            "the cosines are added; they are multiplied, so that one right angle is enough",
            (abs(c) + abs(d)) * (s1 + s2),
        ),
        ("this is an average over the tasks; their interference adds up", product * (s1 + s2) / 2),
        ("the identity is not subtracted; a task does not disturb itself", float((u @ sigma @ v).abs().sum())),
    ]
