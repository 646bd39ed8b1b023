# SPDX-License-Identifier: MIT
"""Ranks other than the uniform one follow their papers, and TSV-M with them follows its own."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from tsvlib import linalg, merging
from tsvlib.computing import Computing
from tsvlib.methods import named, ranks
from tsvlib.methods.base import Method, layerwise
from tsvlib.store import Spectra
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule, StateDict

Array = npt.NDArray[np.float64]
Vectors = Sequence[dict[str, Tensor]]
seeds = st.integers(0, 2**32 - 1)
EPS = float(np.finfo(np.float32).eps)
ALL = {
    "gavish_donoho": Method("gd", "TSV-M, Gavish-Donoho", layerwise(ranks.gavish_donoho), (1.0,)),
    "marchenko_pastur": Method("mp", "TSV-M, Marchenko-Pastur", layerwise(ranks.marchenko_pastur), (1.0,)),
    "energy": Method("energy", "TSV-M, energy", ranks.energy, (1.0,)),
    "orthogonalised_first": Method("other", "TSV-M, steps exchanged", layerwise(ranks.orthogonalised_first), (1.0,)),
}
SHAPES = {"attn.in_proj_weight": (36, 20), "tall": (50, 17), "wide": (16, 44), "bias": (5,), "few": (2, 9)}
MATRICES = ("attn.in_proj_weight", "tall", "wide")


def spiked(rows: int, columns: int, strengths: Sequence[float], seed: int, noise: float = 1.0) -> Tensor:
    """Return noise with a few directions of the given strengths, in float64."""
    k, level = len(strengths), noise / math.sqrt(max(rows, columns))
    strength = torch.tensor(strengths, dtype=torch.float64)
    signal = oracles.orthonormal(rows, k, seed) * strength @ oracles.orthonormal(columns, k, seed + 1).mT
    return signal + level * oracles.matrix(rows, columns, seed + 2)


def experts(n_tasks: int, seed: int) -> list[dict[str, Tensor]]:
    """Return task vectors in float32: spikes on noise, matrices of low rank, some that nobody changed."""
    found = []
    for task in range(n_tasks):
        first = seed + 100 * task
        vector = {key: oracles.matrix(1, math.prod(shape), first).reshape(shape) for key, shape in SHAPES.items()}
        for place, key in enumerate(MATRICES):
            strengths = [9.0, 7.0, 5.5, 4.5, 3.2][: 2 + (task + place) % 4]
            vector[key] = spiked(*SHAPES[key], strengths, first + place)
        found.append({key: tensor.float() for key, tensor in vector.items()})
    found[0]["wide"] = spiked(16, 44, [3.0, 2.0, 1.5, 1.2], seed, noise=0.0).float()
    found[-1]["tall"] = torch.zeros(50, 17)
    return found


def merged(name: str, vectors: Vectors, computing: Computing | None = None, workers: int = 1) -> StateDict:
    return merging.merged_update(list(vectors), ALL[name], computing=computing or Computing(), workers=workers)


def decomposed(vectors: Vectors, key: str) -> list[tuple[Array, Array, Array]]:
    """Return the components of each task matrix that are more than the rounding of float32."""
    found = []
    for delta in (vector[key].double().numpy() for vector in vectors):
        if delta.any():
            u, s, vh = np.linalg.svd(delta, full_matrices=False)
            rank = int((s > max(delta.shape) * EPS * s[0]).sum())
            found.append((u[:, :rank], s[:rank], vh[:rank].T))
    return found


def polar(x: Array) -> Array:
    p, _, qh = np.linalg.svd(x, full_matrices=False)
    found: Array = p @ qh
    return found


def algorithm_1(parts: Sequence[tuple[Array, Array, Array]], counts: Sequence[int], shape: tuple[int, ...]) -> Array:
    """Transcribe lines 6 to 12 of the paper's Algorithm 1 for as many components of each task as ``counts`` says."""
    if not sum(counts):
        return np.zeros(shape)
    u, v = (np.hstack([part[side][:, :k] for part, k in zip(parts, counts, strict=True)]) for side in (0, 2))
    sigma = np.concatenate([s[:k] for (_, s, _), k in zip(parts, counts, strict=True)])
    found: Array = polar(u) @ np.diag(sigma) @ polar(v).T
    return found


def law(ratio: float) -> Callable[[float], float]:
    """Transcribe the density of Marchenko and Pastur."""
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    return lambda x: math.sqrt(max(0.0, (high - x) * (x - low))) / (2 * math.pi * ratio * x)


def thresholds(vectors: Vectors, key: str, multiple: Callable[[float], float]) -> list[int]:
    """Transcribe a threshold that is a multiple of the median singular value: how many components it keeps."""
    ratio, found = min(SHAPES[key]) / max(SHAPES[key]), []
    for delta in (vector[key].double().numpy() for vector in vectors):
        if delta.any():
            s = np.linalg.svd(delta, compute_uv=False)
            real = s > max(delta.shape) * EPS * s[0]
            found.append(int((real & (s >= multiple(ratio) * np.median(s))).sum()))
    return found


@cache
def median(ratio: float) -> float:
    """Return the median of the Marchenko-Pastur law by integrating its density until half is there."""
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    start = low
    for _ in range(45):
        middle = (low + high) / 2
        below, _ = integrate.quad(law(ratio), start, middle, epsabs=1e-11, limit=200)
        low, high = (middle, high) if below < 0.5 else (low, middle)
    return low


def donoho(ratio: float) -> float:
    known = math.sqrt(2 * (ratio + 1) + 8 * ratio / ((ratio + 1) + math.sqrt(ratio**2 + 14 * ratio + 1)))
    return known / math.sqrt(median(ratio))


def edge(ratio: float) -> float:
    return (1 + math.sqrt(ratio)) / math.sqrt(median(ratio))


def assert_close(found: Tensor, expected: Array, tolerance: float = 1e-5) -> None:
    assert np.linalg.norm(found.double().numpy() - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("ratio", [0.02, 0.3, 0.75, 1.0])
def test_the_median_of_noise_and_the_thresholds_are_those_of_the_papers(ratio: float) -> None:
    assert ranks.noise_median(ratio) == pytest.approx(median(ratio), rel=1e-7)
    assert ranks.optimal_threshold(ratio) == pytest.approx(donoho(ratio), rel=1e-7)
    assert ranks.noise_edge(ratio) == pytest.approx(edge(ratio), rel=1e-7)
    cubic = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    assert abs(ranks.optimal_threshold(ratio) - cubic) < 0.02


def test_known_values() -> None:
    assert ranks.optimal_threshold(1.0) == pytest.approx(4 / math.sqrt(3) / math.sqrt(0.6527759), rel=1e-6)
    assert ranks.noise_median(1e-5) == pytest.approx(1.0, abs=1e-4)
    assert ranks.noise_edge(1.0) == pytest.approx(2 / math.sqrt(0.6527759), rel=1e-6)


@pytest.mark.parametrize(("name", "multiple"), [("gavish_donoho", donoho), ("marchenko_pastur", edge)])
@pytest.mark.parametrize("seed", [0, 1000])
def test_thresholds_and_algorithm_1_are_transcribed(name: str, multiple: Callable[[float], float], seed: int) -> None:
    vectors = experts(3, seed)
    found = merged(name, vectors)
    for key in MATRICES:
        counts = thresholds(vectors, key, multiple)
        assert sum(counts) > 2
        assert_close(found[key], algorithm_1(decomposed(vectors, key), counts, SHAPES[key]))
    for key in ("bias", "few"):
        assert_close(found[key], np.mean([vector[key].double().numpy() for vector in vectors], axis=0))


def counted(vectors: Vectors, keys: Sequence[str]) -> dict[str, list[int]]:
    """Transcribe the choice by energy: how many components of each task that changed a layer are kept."""
    energies = {key: [s**2 / (s**2).sum() for _, s, _ in decomposed(vectors, key)] for key in keys}
    uniform = {key: min(vectors[0][key].shape) // len(vectors) for key in keys}
    budget = sum(min(uniform[key], len(shares)) for key in keys for shares in energies[key])
    every = sorted((-share, key, task) for key in keys for task, row in enumerate(energies[key]) for share in row)
    found = {key: [0] * len(energies[key]) for key in keys}
    for _, key, task in every[:budget]:
        found[key][task] += 1
    return found


@pytest.mark.parametrize("n_tasks", [2, 3])
@pytest.mark.parametrize("seed", [0, 1000])
def test_energy_keeps_as_many_components_as_tsv_m_with_the_largest_shares(n_tasks: int, seed: int) -> None:
    vectors = experts(n_tasks, seed)
    # With two tasks, even the matrix of two rows has a component for each.
    keys = [*MATRICES, "few"] if n_tasks == 2 else MATRICES
    counts = counted(vectors, keys)
    assert any(len({*row}) > 1 for row in counts.values())
    found = merged("energy", vectors)
    for key in keys:
        assert_close(found[key], algorithm_1(decomposed(vectors, key), counts[key], SHAPES[key]))


def test_energy_by_hand() -> None:
    # One steep matrix and one flat one for each of two tasks that do not overlap: 2 x 2 components each in TSV-M.
    steep, flat = torch.diag(torch.tensor([8.0, 1.0, 1.0, 0.0])), torch.diag(torch.tensor([3.0, 3.0, 2.9, 2.8]))
    zero = torch.zeros(4, 4)
    vectors = [
        {"steep": torch.block_diag(steep, zero), "flat": torch.block_diag(flat, zero)},
        {"steep": torch.block_diag(zero, steep), "flat": torch.block_diag(zero, flat)},
    ]
    # Of 2 * (3 + 4) components the largest 2 * (3 + 4) are all.
    for key, tensor in merged("energy", vectors).items():
        torch.testing.assert_close(tensor, vectors[0][key] + vectors[1][key])
    # With four experts there are 2 * (2 + 2): one of each steep matrix, and then three of each flat one.
    nothing = {key: torch.zeros(8, 8) for key in vectors[0]}
    found = merged("energy", [*vectors, nothing, nothing])
    kept = {"steep": torch.tensor([8.0, 0.0, 0.0, 0.0] * 2), "flat": torch.tensor([3.0, 3.0, 2.9, 0.0] * 2)}
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, torch.diag(kept[key]))


def test_equal_shares_are_kept_together() -> None:
    delta = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    # Three equal experts with one component each in TSV-M: the three strongest are equal.
    found = merged("energy", [{"w": delta}] * 3)["w"]
    torch.testing.assert_close(found, torch.diag(torch.tensor([3.0, 0.0, 0.0])))
    # Four components of `w` come first, then two of the four of `v`, which nothing tells from the others.
    both = {"w": torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5]))}
    vectors = [both | {"v": torch.eye(4)}, both | {"v": torch.zeros(4, 4)}]
    torch.testing.assert_close(merged("energy", vectors)["v"], torch.eye(4))


def test_only_noise_leaves_nothing_and_spikes_stay_alone() -> None:
    noise = [{"w": spiked(60, 40, [0.0], seed).float()} for seed in (0, 10)]
    assert not merged("gavish_donoho", noise)["w"].any()
    spikes = [{"w": spiked(60, 40, [9.0, 7.0, 6.0], seed).float()} for seed in (0, 10)]
    for name in ("gavish_donoho", "marchenko_pastur"):
        assert linalg.numerical_rank(linalg.svd(merged(name, spikes)["w"])) == 6


@pytest.mark.parametrize("name", ["gavish_donoho", "marchenko_pastur"])
def test_more_components_than_dimensions_are_made_orthonormal_by_rows(name: str) -> None:
    deltas = [spiked(12, 15, [5.0, 4.0, 3.0, 2.0, 1.5], seed, noise=0.0) for seed in (0, 10, 20, 30)]
    vectors = [{"w": delta.float()} for delta in deltas]
    expected = algorithm_1(decomposed(vectors, "w"), [5] * 4, (12, 15))
    assert_close(merged(name, vectors)["w"], expected)


def test_rounding_error_is_no_component_where_the_median_is_nothing_but_that() -> None:
    vectors = [{"w": spiked(30, 24, [5.0, 4.0, 3.0], seed, noise=0.0).float()} for seed in (0, 10)]
    for name in ALL:
        assert linalg.numerical_rank(linalg.svd(merged(name, vectors)["w"])) == 6


@pytest.mark.parametrize("seed", [0, 1000])
def test_the_exchange_of_steps_is_transcribed(seed: int) -> None:
    vectors = experts(3, seed)
    found = merged("orthogonalised_first", vectors)
    for key in MATRICES:
        parts = decomposed(vectors, key)
        ends = np.cumsum([len(s) for _, s, _ in parts])[:-1]
        left, right = (np.split(polar(np.hstack([part[side] for part in parts])), ends, axis=1) for side in (0, 2))
        k, expected = min(SHAPES[key]) // 3, np.zeros(SHAPES[key])
        for u, (_, s, _), v in zip(left, parts, right, strict=True):
            expected += u[:, :k] @ np.diag(s[:k]) @ v[:, :k].T
        assert_close(found[key], expected)


def test_exchanged_steps_only_truncate_square_matrices_of_full_rank() -> None:
    vectors = [{"w": oracles.matrix(12, 12, seed)} for seed in range(3)]
    truncated = merging.merged_update(vectors, named("low_rank"))["w"]
    torch.testing.assert_close(merged("orthogonalised_first", vectors)["w"], truncated / 3)


@pytest.mark.parametrize("name", ALL)
@given(order=st.permutations(range(3)), seed=st.integers(0, 100))
@settings(max_examples=8)
def test_the_order_of_tasks_does_not_matter(name: str, order: list[int], seed: int) -> None:
    vectors = experts(3, 1000 * seed)
    expected = merged(name, vectors)
    for key, tensor in merged(name, [vectors[task] for task in order]).items():
        assert_close(tensor, expected[key].double().numpy())


@pytest.mark.parametrize("name", ALL)
def test_signs_of_singular_vectors_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, decompose = experts(3, 0), linalg.leading
    expected = merged(name, vectors)
    calls = iter(range(10**6))

    def other_signs(delta: Tensor, k: int) -> linalg.Factors:
        return linalg.Factors(*(part.to(delta.dtype) for part in oracles.flipped(decompose(delta, k), next(calls))))

    monkeypatch.setattr(linalg, "leading", other_signs)
    for key, tensor in merged(name, vectors).items():
        assert_close(tensor, expected[key].double().numpy())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_updates_scale_with_task_vectors(name: str, scale: float) -> None:
    vectors = experts(3, 0)
    found = merged(name, [{key: tensor * scale for key, tensor in vector.items()} for vector in vectors])
    for key, tensor in merged(name, vectors).items():
        assert_close(found[key].double() / scale, tensor.double().numpy(), 2e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_store_and_workers_change_no_bit(name: str, tmp_path: Path) -> None:
    vectors = experts(3, 0)
    expected = merged(name, vectors)
    store = Spectra(tmp_path, whole=True)
    for _ in range(2):
        found = merged(name, vectors, Computing(spectra=store), workers=2)
        assert all(torch.equal(found[key], expected[key]) for key in SHAPES)
    # One entry for each task matrix that somebody changed, and none beyond.
    assert len(store.list()) == 8


@pytest.mark.parametrize("name", ALL)
def test_layers_that_nobody_changed_and_suites_without_matrices_stay_as_they_are(name: str) -> None:
    still = [{"w": torch.zeros(6, 6), "b": torch.ones(2)} for _ in range(2)]
    found = merged(name, still)
    assert not found["w"].any()
    assert found["b"].tolist() == [1.0, 1.0]
    assert merged(name, [{"b": torch.ones(2)}] * 2)["b"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["gavish_donoho", "marchenko_pastur", "orthogonalised_first"])
def test_fused_projections_may_be_taken_apart(name: str) -> None:
    key, vectors = "attn.in_proj_weight", experts(3, 0)
    suite = MemorySuite(vectors)
    found = merging.update(ALL[name].bind(suite), suite, key, Computing(MatrixRule(split_qkv=True)))
    for number, part in enumerate(found.chunk(3)):
        alone = merged(name, [{"w": vector[key].chunk(3)[number]} for vector in vectors])["w"]
        torch.testing.assert_close(part, alone)


def test_energy_counts_the_task_matrices_of_the_rule_at_hand() -> None:
    key, vectors = (
        "attn.in_proj_weight",
        [{"attn.in_proj_weight": vector["attn.in_proj_weight"]} for vector in experts(3, 0)],
    )
    suite = MemorySuite(vectors)
    function = ranks.energy(suite)
    fused = merging.update(function, suite, key)
    split = merging.update(function, suite, key, Computing(MatrixRule(split_qkv=True)))
    parts = [{f"{number}": part for number, part in enumerate(vector[key].chunk(3))} for vector in vectors]
    expected = merged("energy", parts)
    for number, part in enumerate(split.chunk(3)):
        torch.testing.assert_close(part, expected[f"{number}"])
    assert_close(fused, merged("energy", vectors)[key].double().numpy())
    assert not torch.allclose(fused, split, rtol=1e-2)
