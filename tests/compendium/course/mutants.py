# SPDX-License-Identifier: MIT
"""Wrong answers by exercise, each with words of the sentence that it deserves."""

import math
import random
from typing import Any

import torch
from torch import Tensor

from .reference import REFERENCES, Function

tsv_m, merge, ablation = (REFERENCES["a4"][name] for name in ("tsv_m", "merge", "ablation"))


def svd(x: Tensor) -> Any:
    return torch.linalg.svd(x, full_matrices=False)


def polar(x: Tensor) -> Tensor:
    p, _, qh = svd(x)
    return p @ qh


def plain_cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def undivided_angle(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.acos(abs(float(a @ b))))


def unclamped_angle(a: Tensor, b: Tensor) -> float:
    return float(torch.rad2deg(torch.acos((a @ b).abs() / (a.norm() * b.norm()) * (1 + 1e-6))))


def gram_schmidt(x: Tensor) -> Tensor:
    q, r = torch.linalg.qr(x)
    return q * r.diagonal().sign()


def middle_kept(x: Tensor) -> Tensor:
    p, d, qh = svd(x)
    return p @ torch.diag(d) @ qh


def inverse_without_root(x: Tensor) -> Tensor:
    return x @ torch.linalg.inv(x.mT @ x)


def with_identity(c: float, d: float, s1: float, s2: float) -> float:
    u, v = (torch.tensor([[1.0, cosine], [cosine, 1.0]]) for cosine in (c, d))
    return float((u @ torch.diag(torch.tensor([s1, s2])) @ v).abs().sum())


A0: dict[str, list[tuple[str, Function]]] = {
    "angle": [
        ("in radians", lambda a, b: math.acos(min(1.0, abs(plain_cosine(a, b))))),
        ("have no sign", lambda a, b: math.degrees(math.acos(max(-1.0, min(1.0, plain_cosine(a, b)))))),
        ("the cosine itself", lambda a, b: abs(plain_cosine(a, b))),
        ("inverse of the sine", lambda a, b: math.degrees(math.asin(min(1.0, abs(plain_cosine(a, b)))))),
        ("not divided by both lengths", undivided_angle),
        ("NaN or Inf; rounding can make a cosine", unclamped_angle),
        ("a tensor of shape 2", lambda a, b: a * b),
    ],
    "task_matrix": [
        ("the transpose", lambda s, u, v: s * torch.outer(v, u)),
        ("singular values are missing", lambda s, u, v: torch.outer(u, v)),
        ("are squared", lambda s, u, v: s**2 * torch.outer(u, v)),
        ("inner product", lambda s, u, v: s * (u @ v)),
        ("entry by entry", lambda s, u, v: s * u * v),
    ],
    "procrustes": [
        ("x as it was", middle_kept),
        ("P alone", lambda x: svd(x)[0]),
        ("V in the place of Vᵀ", lambda x: svd(x)[0] @ svd(x)[2].mT),
        ("Q Pᵀ", lambda x: polar(x).mT),
        ("Gram-Schmidt", gram_schmidt),
        ("Gram-Schmidt", lambda x: torch.linalg.qr(x).Q),
        ("not yet orthogonal", lambda x: x / x.norm(dim=0)),
        ("X (XᵀX)⁻¹", inverse_without_root),
    ],
    "sti_of_two": [
        ("absolute value is missing", lambda c, d, s1, s2: c * d * (s1 + s2)),
        ("Frobenius", lambda c, d, s1, s2: abs(c * d) * math.hypot(s1, s2)),
        ("largest column sum", lambda c, d, s1, s2: abs(c * d) * max(s1, s2)),
        ("singular values are missing", lambda c, d, s1, s2: 2 * abs(c * d)),
        ("are squared", lambda c, d, s1, s2: abs(c * d) * (s1**2 + s2**2)),
        ("are multiplied", lambda c, d, s1, s2: abs(c * d) * s1 * s2),
        ("cosines are added", lambda c, d, s1, s2: (abs(c) + abs(d)) * (s1 + s2)),
        ("average over the tasks", lambda c, d, s1, s2: abs(c * d) * (s1 + s2) / 2),
        ("identity is not subtracted", with_identity),
    ],
}


def combined(factors: list[float], models: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {k: sum(f * model[k] for f, model in zip(factors, models, strict=True)) for k in models[0]}


def flat(model: dict[str, Tensor], least: int = 0) -> Tensor:
    return torch.cat([x.flatten() for x in model.values() if x.ndim == 2 or not least])


def by_tensor(one: dict[str, Tensor], two: dict[str, Tensor]) -> list[float]:
    return [plain_cosine(one[key].flatten(), two[key].flatten()) for key in one]


def sum_in_place(vectors: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    total = vectors[0]
    for vector in vectors[1:]:
        for key in total:
            total[key] += vector[key]
    return total


def applied_in_place(base: dict[str, Tensor], update: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    for key in base:
        base[key] = base[key] + alpha * update[key]
    return base


A1: dict[str, list[tuple[str, Function]]] = {
    "task_vector": [
        ("sign is wrong", lambda base, expert: combined([1, -1], [base, expert])),
        ("the expert itself", lambda base, expert: dict(expert)),
        ("is added", lambda base, expert: combined([1, 1], [base, expert])),
        ("only the matrices", lambda b, e: {k: e[k] - b[k] for k in b if b[k].ndim == 2}),
        ("lacks the entry `conv1.weight`", lambda b, e: {k: e[k] - b[k] for k in b if b[k].ndim < 3}),
        ("in place", lambda base, expert: {key: expert[key].sub_(base[key]) for key in base}),
    ],
    "cosine": [
        ("not divided", lambda one, two: float(flat(one) @ flat(two))),
        ("squares of the lengths", lambda a, b: flat(a) @ flat(b) / (flat(a) @ flat(a) * (flat(b) @ flat(b)))),
        ("mean of the cosines", lambda one, two: sum(by_tensor(one, two)) / len(one)),
        ("sum of the cosines", lambda one, two: sum(by_tensor(one, two))),
        ("only the matrices", lambda one, two: plain_cosine(flat(one, 2), flat(two, 2))),
        ("this is the angle", lambda one, two: math.acos(plain_cosine(flat(one), flat(two)))),
        ("sign is lost", lambda one, two: abs(plain_cosine(flat(one), flat(two)))),
    ],
    "task_arithmetic": [
        ("this is the mean", lambda vectors: combined([1 / len(vectors)] * len(vectors), vectors)),
        ("first task vector alone", lambda vectors: dict(vectors[0])),
        ("last task vector alone", lambda vectors: dict(vectors[-1])),
        ("counted twice", lambda vectors: combined([2] + [1] * (len(vectors) - 1), vectors)),
        ("last task vector is missing", lambda vectors: combined([1] * (len(vectors) - 1), vectors[:-1])),
        ("stacked", lambda vectors: {key: torch.stack([v[key] for v in vectors]) for key in vectors[0]}),
        ("in place", sum_in_place),
    ],
    "apply": [
        ("base is missing", lambda base, update, alpha: combined([alpha], [update])),
        ("alpha is ignored", lambda base, update, alpha: combined([1, 1], [base, update])),
        ("scales the base too", lambda base, update, alpha: combined([alpha, alpha], [base, update])),
        ("from base to update", lambda base, update, alpha: combined([1 - alpha, alpha], [base, update])),
        ("is subtracted", lambda base, update, alpha: combined([1, -alpha], [base, update])),
        ("in place", applied_in_place),
    ],
    "normalised_accuracy": [
        ("ratio of the means", lambda m, i: sum(m.values()) / sum(i.values())),
        ("upside down", lambda m, i: sum(i[t] / m[t] for t in m) / len(m)),
        ("sum of the ratios", lambda m, i: sum(m[t] / i[t] for t in m)),
        ("absolute accuracy", lambda m, i: sum(m.values()) / len(m)),
        ("in per cent", lambda m, i: 100 * sum(m[t] / i[t] for t in m) / len(m)),
        ("difference to the experts", lambda m, i: sum(m[t] - i[t] for t in m) / len(m)),
        ("something of type dict", lambda m, i: {t: m[t] / i[t] for t in m}),
    ],
}


def cut(delta: Tensor, kept: slice, exponent: float = 1) -> Tensor:
    u, s, vh = svd(delta)
    return (u[:, kept] * s[kept] ** exponent) @ vh[kept]


def transposed(delta: Tensor, k: int) -> Tensor:
    u, s, v = svd(delta)
    return u[:, :k] @ torch.diag(s[:k]) @ v[:, :k].mT


def share(delta: Tensor, k: int, exponent: int = 2) -> float:
    s = torch.linalg.svdvals(delta) ** exponent
    return float(s[:k].sum() / s.sum())


def fair(x: Tensor, n_tasks: int) -> slice:
    return slice(max(1, min(x.shape) // n_tasks))


def brought_back(base: Tensor, expert: Tensor, kept: slice, exponent: float = 1) -> Tensor:
    return base + cut(expert - base, kept, exponent)


A2: dict[str, list[tuple[str, Function]]] = {
    "low_rank": [
        ("V in the place of Vᵀ", transposed),
        ("are squared", lambda delta, k: cut(delta, slice(k), 2)),
        ("singular values are missing", lambda delta, k: cut(delta, slice(k), 0)),
        ("one component too many", lambda delta, k: cut(delta, slice(k + 1))),
        ("one component is missing", lambda delta, k: cut(delta, slice(k - 1))),
        ("first component is left out", lambda delta, k: cut(delta, slice(1, k))),
        ("weakest", lambda delta, k: cut(delta, slice(min(delta.shape) - k, None))),
        ("all components are kept", lambda delta, k: delta.clone()),
        ("to be dropped", lambda delta, k: cut(delta, slice(k, None))),
    ],
    "energy": [
        ("not squared", lambda delta, k: share(delta, k, 1)),
        ("take no root", lambda delta, k: share(delta, k) ** 0.5),
        ("lost", lambda delta, k: 1 - share(delta, k)),
        ("not divided", lambda delta, k: torch.linalg.svdvals(delta)[:k].square().sum()),
        ("number of components", lambda delta, k: k / min(delta.shape)),
        ("too many", lambda delta, k: share(delta, k + 1)),
        ("is missing", lambda delta, k: share(delta, k - 1)),
    ],
    "kept_rank": [
        ("nearest", lambda rank, n_tasks: max(1, round(rank / n_tasks))),
        ("rounded up", lambda rank, n_tasks: math.ceil(rank / n_tasks)),
        ("no whole number", lambda rank, n_tasks: rank / n_tasks),
        ("has cost a component", lambda rank, n_tasks: int(rank * (1 / n_tasks))),
        ("nothing is left", lambda rank, n_tasks: rank // n_tasks),
        ("all tasks together", lambda rank, n_tasks: rank),
    ],
    "stored_numbers": [
        ("are forgotten", lambda rows, columns, k: k * (rows + columns)),
        ("square matrix", lambda rows, columns, k: k * (rows + columns) + k * k),
        ("the whole matrix; its", lambda rows, columns, k: rows * columns),
        ("for every component", lambda rows, columns, k: k * rows * columns),
        ("left side", lambda rows, columns, k: k * (rows + 1)),
        ("right side", lambda rows, columns, k: k * (columns + 1)),
        ("bytes", lambda rows, columns, k: 4 * k * (rows + columns + 1)),
        ("float", lambda rows, columns, k: float(k * (rows + columns + 1))),
    ],
    "tsv_c": [
        ("base is missing", lambda b, e, n: cut(e - b, fair(b, n))),
        ("expert's weights are decomposed", lambda b, e, n: cut(e, fair(b, n))),
        ("expert's weights are decomposed", lambda b, e, n: b + cut(e, fair(b, n))),
        ("all components", lambda b, e, n: e.clone()),
        ("averages nothing", lambda b, e, n: b + cut(e - b, fair(b, n)) / n),
        ("too many", lambda b, e, n: brought_back(b, e, slice(fair(b, n).stop + 1))),
        ("number of tasks; it is the rank", lambda b, e, n: brought_back(b, e, slice(n))),
        ("longer side", lambda b, e, n: brought_back(b, e, slice(max(1, max(b.shape) // n)))),
        ("is subtracted", lambda b, e, n: b - cut(e - b, fair(b, n))),
        ("are squared", lambda b, e, n: brought_back(b, e, fair(b, n), 2)),
        ("keep at least one", lambda b, e, n: brought_back(b, e, slice(min(b.shape) // n))),
    ],
}


def padded(blocks: list[Tensor]) -> Tensor:
    whole = torch.cat(blocks, 1)
    return torch.cat([whole, torch.zeros(len(whole), len(whole) - whole.shape[1])], 1)


def gap(u: Tensor, s: Tensor, v: Tensor, left: float = 1, right: float = 1) -> Tensor:
    eye = torch.eye(len(s))
    return (u.mT @ u - left * eye) @ torch.diag(s) @ (v.mT @ v - right * eye)


def gap_of_rows(u: Tensor, s: Tensor, vh: Tensor) -> Tensor:
    eye = torch.eye(len(s))
    return ((u.mT @ u - eye) @ torch.diag(s) @ (vh @ vh.mT - eye)).abs().sum()


def to_the(x: Tensor, exponent: float) -> Tensor:
    values, q = torch.linalg.eigh(x.mT @ x)
    return (q * values**exponent) @ q.mT


def without_last_factor(x: Tensor) -> Tensor:
    values, q = torch.linalg.eigh(x.mT @ x)
    return x @ (q / values.sqrt())


def centred(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    return x @ to_the(x, -0.5)


A3: dict[str, list[tuple[str, Function]]] = {
    "side_by_side": [
        ("one above the other", lambda blocks: torch.cat(blocks)),
        ("padded with zero columns", padded),
        ("alternate", lambda blocks: torch.stack(blocks, 2).flatten(1)),
        ("are summed", lambda blocks: torch.stack(blocks).sum(0)),
        ("new dimension", torch.stack),
        ("reversed", lambda blocks: torch.cat(blocks[::-1], 1)),
    ],
    "similarity": [
        ("X Xᵀ", lambda x: x @ x.mT),
        ("identity is subtracted", lambda x: x.mT @ x - torch.eye(x.shape[1])),
        ("signs are lost", lambda x: (x.mT @ x).abs()),
        ("divided by the lengths", lambda x: (x / x.norm(dim=0)).mT @ (x / x.norm(dim=0))),
        ("squared entry by entry", lambda x: (x.mT @ x) ** 2),
    ],
    "sti": [
        ("Frobenius", lambda u, s, v: gap(u, s, v).norm()),
        ("largest column sum", lambda u, s, v: torch.linalg.matrix_norm(gap(u, s, v), 1)),
        ("spectral", lambda u, s, v: torch.linalg.matrix_norm(gap(u, s, v), 2)),
        ("absolute value is missing", lambda u, s, v: gap(u, s, v).sum()),
        ("mean of the absolute", lambda u, s, v: gap(u, s, v).abs().mean()),
        ("not subtracted", lambda u, s, v: gap(u, s, v, 0, 0).abs().sum()),
        ("one side alone", lambda u, s, v: gap(u, s, v, 0, 1).abs().sum()),
        ("one side alone", lambda u, s, v: gap(u, s, v, 1, 0).abs().sum()),
        ("are squared", lambda u, s, v: gap(u, s**2, v).abs().sum()),
        ("singular values are missing", lambda u, s, v: gap(u, torch.ones(len(s)), v).abs().sum()),
        ("V Vᵀ", gap_of_rows),
    ],
    "whiten": [
        ("X (XᵀX)⁻¹", lambda x: x @ to_the(x, -1)),
        ("without the inverse", lambda x: x @ to_the(x, 0.5)),
        ("alone; multiply", lambda x: to_the(x, -0.5)),
        ("last factor Qᵀ", without_last_factor),
        ("singular value already", lambda x: x @ to_the(x, -0.25)),
        ("mean is taken out", centred),
        ("X as it was", lambda x: x.clone()),
    ],
    "procrustes_error": [
        ("square root is missing", lambda x: (polar(x) - x).square().sum()),
        ("sum of the absolute entries", lambda x: (polar(x) - x).abs().sum()),
        ("largest singular value", lambda x: torch.linalg.matrix_norm(polar(x) - x, 2)),
        ("nuclear", lambda x: (torch.linalg.svdvals(x) - 1).abs().sum()),
        ("XᵀX - I", lambda x: (x.mT @ x - torch.eye(x.shape[1])).norm()),
        ("norm of the polar factor", lambda x: polar(x).norm()),
    ],
}


def one_sided(deltas: list[Tensor], left: bool, k: int = 0) -> Tensor:
    k = k or max(1, min(deltas[0].shape) // len(deltas))
    parts = [svd(delta) for delta in deltas]
    u, v = torch.cat([u[:, :k] for u, _, _ in parts], 1), torch.cat([vh[:k].mT for _, _, vh in parts], 1)
    s = torch.cat([s[:k] for _, s, _ in parts])
    return (polar(u) * s) @ v.mT if left else (u * s) @ polar(v).mT


def wrong_v(deltas: list[Tensor]) -> Tensor:
    k = max(1, min(deltas[0].shape) // len(deltas))
    parts = [svd(delta) for delta in deltas]
    u, v = torch.cat([u[:, :k] for u, _, _ in parts], 1), torch.cat([v[:, :k] for _, _, v in parts], 1)
    return (polar(u) * torch.cat([s[:k] for _, s, _ in parts])) @ polar(v).mT


def by_columns(deltas: list[Tensor]) -> Tensor:
    k = max(1, min(deltas[0].shape) // len(deltas))
    parts = [svd(delta) for delta in deltas]
    u, v = torch.cat([u[:, :k] for u, _, _ in parts], 1), torch.cat([vh[:k].mT for _, _, vh in parts], 1)
    return (gram_schmidt(u) * torch.cat([s[:k] for _, s, _ in parts])) @ gram_schmidt(v).mT


def merged_otherwise(matrix: Function, other: Function, exempt: str = "text_projection") -> Function:
    """Return a ``merge`` with other updates of matrices and of everything else."""

    def merge(base: dict[str, Tensor], experts: list[dict[str, Tensor]], alpha: float) -> dict[str, Tensor]:
        found = {}
        for key, x in base.items():
            deltas = [expert[key] - x for expert in experts]
            found[key] = x + (matrix if x.ndim == 2 and key != exempt else other)(deltas, alpha)
        return found

    return merge


def mean(deltas: list[Tensor], alpha: float) -> Tensor:
    return alpha * torch.stack(deltas).mean(0)


def orthogonalised(deltas: list[Tensor], alpha: float) -> Tensor:
    return alpha * tsv_m(deltas)


def unsubtracted(base: dict[str, Tensor], experts: list[dict[str, Tensor]], alpha: float) -> dict[str, Tensor]:
    update = merge({key: torch.zeros_like(x) for key, x in base.items()}, experts, alpha)
    return {key: base[key] + update[key] for key in base}


A4: dict[str, list[tuple[str, Function]]] = {
    "tsv_m": [
        ("the right singular vectors are not", lambda deltas: one_sided(deltas, True)),
        ("the left singular vectors are not", lambda deltas: one_sided(deltas, False)),
        ("sum of low-rank", lambda deltas: ablation(deltas, True, False)),
        ("sums and does not average", lambda deltas: tsv_m(deltas) / len(deltas)),
        ("all components are kept", lambda deltas: ablation(deltas, False, True)),
        ("V in the place of Vᵀ", wrong_v),
        ("Gram-Schmidt", by_columns),
        ("task arithmetic", lambda deltas: torch.stack(deltas).sum(0)),
    ],
    "merge": [
        ("base is missing", lambda b, e, a: {key: x - b[key] for key, x in merge(b, e, a).items()}),
        ("is summed", merged_otherwise(orthogonalised, lambda d, a: a * torch.stack(d).sum(0))),
        ("divided by the number", merged_otherwise(lambda d, a: a * tsv_m(d) / len(d), mean)),
        ("alpha is ignored", lambda b, e, a: merge(b, e, 1)),
        ("matrices alone", merged_otherwise(orthogonalised, lambda d, a: mean(d, 1))),
        ("`text_projection` is treated", merged_otherwise(orthogonalised, mean, "")),
        ("stays as it was", merged_otherwise(orthogonalised, lambda d, a: 0)),
        ("in the place of their task vectors", unsubtracted),
        ("entry `visual.proj`", merged_otherwise(lambda d, a: 3 * tsv_m(d), mean)),
    ],
    "ablation": [
        ("interchanged", lambda deltas, low, orthogonal: ablation(deltas, orthogonal, low)),
        ("`low_rank` is turned round", lambda deltas, low, orthogonal: ablation(deltas, not low, orthogonal)),
        ("`orthogonal` is turned round", lambda deltas, low, orthogonal: ablation(deltas, low, not orthogonal)),
        ("both switches", lambda deltas, low, orthogonal: ablation(deltas, not low, not orthogonal)),
        ("does not average", lambda deltas, low, orthogonal: ablation(deltas, low, orthogonal) / len(deltas)),
        (
            "the right singular vectors are not",
            lambda d, low, orthogonal: (
                one_sided(d, True, 0 if low else min(d[0].shape)) if orthogonal else ablation(d, low, False)
            ),
        ),
    ],
    "own_method": [
        ("order of the tasks", lambda deltas: deltas[0] + 0.5 * sum(deltas[1:])),
        ("two calls", lambda deltas: sum(deltas) + random.random()),
        ("is zero", lambda deltas: 0 * deltas[0]),
        ("no trace", lambda deltas: torch.stack(sorted(deltas, key=torch.norm)[1:]).sum(0)),
        ("NaN or Inf", lambda deltas: sum(deltas) / 0),
        ("no tensor with the shape", lambda deltas: deltas),
    ],
}

MUTANTS = {"a0": A0, "a1": A1, "a2": A2, "a3": A3, "a4": A4}
EXERCISES = [(assignment, exercise) for assignment in MUTANTS for exercise in REFERENCES[assignment]]
