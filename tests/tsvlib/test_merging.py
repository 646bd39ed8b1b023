# SPDX-License-Identifier: MIT
"""Merging follows the paper's algorithm, whatever the order of tasks and the signs of singular vectors."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import algorithm_1
from torch import Tensor

from tsvlib import linalg, merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import Layer, task_matrices
from tsvlib.methods import UPDATES, named, tsv
from tsvlib.methods.base import Method, Needs, layerwise
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule, StateDict, TaskVector

seeds = st.integers(0, 2**32 - 1)
suites = st.integers(2, 6)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "text_projection": (6, 6), "bias": (5,), "scale": ()}


def experts(n_tasks: int, seed: int, dtype: torch.dtype = torch.float64) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, dtype)


def merged(name: str, task_vectors: Sequence[StateDict]) -> dict[str, Tensor]:
    return merging.merged_update(task_vectors, UPDATES[name])


def mean(task_vectors: list[dict[str, Tensor]], key: str) -> Tensor:
    return torch.tensor(np.mean([task_vector[key].numpy() for task_vector in task_vectors], axis=0))


def assert_same(left: StateDict, right: StateDict) -> None:
    assert left.keys() == right.keys()
    for key in left:
        torch.testing.assert_close(left[key], right[key], rtol=1e-6, atol=1e-8)


@given(suites, seeds)
def test_tsv_m_is_algorithm_1_on_matrices_and_the_mean_elsewhere(n_tasks: int, seed: int) -> None:
    task_vectors = experts(n_tasks, seed)
    expected = {
        key: torch.from_numpy(algorithm_1([task_vector[key].numpy() for task_vector in task_vectors]))
        if key in ("in_proj_weight", "proj")
        else mean(task_vectors, key)
        for key in SHAPES
    }
    assert_same(merged("tsv_m", task_vectors), expected)


@given(suites, seeds)
def test_float32_stays_near_the_float64_answer(n_tasks: int, seed: int) -> None:
    exact = merged("tsv_m", experts(n_tasks, seed))
    rounded = merged("tsv_m", [{k: t.float() for k, t in expert.items()} for expert in experts(n_tasks, seed)])
    for key in SHAPES:
        assert rounded[key].dtype == torch.float32
        assert (rounded[key] - exact[key]).norm() <= 1e-3 * exact[key].norm()


@pytest.mark.parametrize("shape", [(90, 24), (24, 90), (40, 24)])
def test_long_and_short_matrices_in_float32_are_algorithm_1(shape: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    deltas = [torch.randn(shape, generator=random) for _ in range(3)]
    expected = torch.from_numpy(algorithm_1([delta.double().numpy() for delta in deltas]))
    found = merged("tsv_m", [{"proj": delta} for delta in deltas])["proj"]
    assert (found - expected).norm() <= 3e-5 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 64), (64, 40)])
def test_task_vectors_in_half_precision_are_merged(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = [{"w": torch.randn(shape, generator=generator).to(dtype)} for _ in range(4)]
    found = merging.merged_update(vectors, named("tsv_m"))["w"]
    exact = merging.merged_update([{"w": vector["w"].double()} for vector in vectors], named("tsv_m"))["w"]
    assert found.dtype == torch.float32
    assert (found.double() - exact).norm() <= 1e-4 * exact.norm()


@given(suites, seeds)
def test_averaging_is_the_mean_and_task_arithmetic_the_sum(n_tasks: int, seed: int) -> None:
    task_vectors = experts(n_tasks, seed)
    average, total = merged("weight_averaging", task_vectors), merged("task_arithmetic", task_vectors)
    assert_same(average, {key: mean(task_vectors, key) for key in SHAPES})
    assert_same(total, {key: n_tasks * mean(task_vectors, key) for key in SHAPES})


@pytest.mark.parametrize("name", UPDATES)
@settings(max_examples=25)  # there are 24 orders
@given(order=st.permutations(range(4)), seed=seeds)
def test_order_of_tasks_does_not_matter(name: str, order: list[int], seed: int) -> None:
    task_vectors = experts(4, seed)
    assert_same(merged(name, [task_vectors[task] for task in order]), merged(name, task_vectors))


def test_signs_of_singular_vectors_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    task_vectors = experts(3, 0)
    expected = merged("tsv_m", task_vectors)
    random, decompose = torch.Generator().manual_seed(1), linalg.leading

    def other_signs(delta: Tensor, k: int) -> linalg.Factors:
        u, s, vh = decompose(delta, k)
        signs = torch.randn(1, len(s), dtype=s.dtype, generator=random).sign()
        return linalg.Factors(u * signs, s, vh * signs.T)

    monkeypatch.setattr(linalg, "leading", other_signs)
    assert_same(merged("tsv_m", task_vectors), expected)


def test_tasks_that_do_not_overlap_are_all_kept_whole() -> None:
    deltas = [torch.zeros(6, 6, dtype=torch.float64) for _ in range(3)]
    for task, delta in enumerate(deltas):
        delta[2 * task, 2 * task + 1] = task + 1.0
        delta[2 * task + 1, 2 * task] = -2.0
    found = merged("tsv_m", [{"proj": delta} for delta in deltas])
    torch.testing.assert_close(found["proj"], torch.stack(deltas).sum(0))


def test_singular_values_of_the_update_are_those_of_the_tasks() -> None:
    task_vectors = experts(3, 0)
    kept = torch.cat([torch.linalg.svdvals(task_vector["proj"])[:2] for task_vector in task_vectors])
    found = torch.linalg.svdvals(merged("tsv_m", task_vectors)["proj"])
    torch.testing.assert_close(found, kept.sort(descending=True).values)


def test_identical_tasks_give_their_common_low_rank_matrix() -> None:
    task_vector = experts(1, 0)[0]
    found = merged("tsv_m", [task_vector] * 3)
    torch.testing.assert_close(found["proj"], linalg.leading(task_vector["proj"], 2).product())


def test_untrained_layers_take_no_part() -> None:
    task_vectors = experts(3, 0)
    task_vectors[1]["proj"].zero_()
    trained = [linalg.svd(task_vectors[task]["proj"]) for task in (0, 2)]
    u = torch.cat([f.u[:, :2] for f in trained], 1)
    v = torch.cat([f.vh[:2].T for f in trained], 1)
    s = torch.cat([f.s[:2] for f in trained])
    expected = linalg.orthogonalise(u) * s @ linalg.orthogonalise(v).T
    torch.testing.assert_close(merged("tsv_m", task_vectors)["proj"], expected)
    for task_vector in task_vectors:
        task_vector["proj"].zero_()
    assert not merged("tsv_m", task_vectors)["proj"].any()


def test_directions_without_weight_do_not_disturb_other_tasks() -> None:
    thin = torch.zeros(6, 6, dtype=torch.float64)
    thin[0, 0] = 5.0
    other = torch.diag(torch.tensor([0.0, 4.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64))
    found = merged("tsv_m", [{"proj": thin}, {"proj": other}])["proj"]
    torch.testing.assert_close(found.diagonal(), torch.tensor([5.0, 4.0, 3.0, 2.0, 0.0, 0.0]).double())


def test_inputs_stay_as_they_were() -> None:
    task_vectors = experts(3, 0)
    for name in UPDATES:
        merged(name, task_vectors)
    for before, after in zip(experts(3, 0), task_vectors, strict=True):
        assert all(torch.equal(before[key], after[key]) for key in SHAPES)


def test_grids_of_the_papers_code() -> None:
    assert named("weight_averaging").alphas == (1.0,)
    assert named("tsv-m").alphas[:3] == (0.1, 0.2, 0.3)
    assert named("tsv-m").alphas[-1] == 3.0
    assert named("task_arithmetic").alphas[::29] == (1 / 30, 1.0)
    ready = {name for name, method in UPDATES.items() if not method.searches_alpha}
    closed = {"regmean_from_differences", "swudi", "aswudi"}
    ranks = {"tsv_m_alpha_1", "tsv_m_exchanged", "tsv_m_gavish_donoho", "tsv_m_marchenko_pastur", "tsv_m_energy"}
    assert ready == {"weight_averaging", "wudi", "star", "cart"} | closed | ranks
    assert {len(method.alphas) for method in UPDATES.values()} == {1, 30}


def test_a_method_is_a_function_and_a_row() -> None:
    def first(layer: Layer) -> Tensor:
        return next(iter(layer.changes())).reshape(layer.shape)

    found = Method("first", "The first", layerwise(first), (0.5,))
    assert (found.searches_alpha, found.needs) == (False, Needs())
    assert_same(merging.merged_update(experts(2, 0), found), experts(2, 0)[0])


def test_unknown_method_is_refused() -> None:
    sentence = "no merging method `tsvm`; choose one of weight-averaging, task-arithmetic, .*, tsv-m"
    with pytest.raises(InputError, match=sentence):
        named("tsvm")


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_experts_are_refused(name: str, count: int) -> None:
    with pytest.raises(InputError, match=f"at least two experts, and there are {count}"):
        merged(name, experts(count, 0))


@pytest.mark.parametrize("name", UPDATES)
def test_unlike_task_vectors_are_refused(name: str) -> None:
    unlike = experts(3, 0)
    for number in (3, 2):
        unlike[number - 1]["proj"] = torch.zeros(9, 6)
        sentence = rf"`proj` has shape \(6, 9\) in task vector 1 and \(9, 6\) in task vector {number}"
        with pytest.raises(InputError, match=sentence):
            merged(name, unlike)
    unlike = experts(3, 0)
    del unlike[2]["proj"]
    with pytest.raises(InputError, match="task vector 3 lacks `proj`"):
        merged(name, unlike)


def test_a_matrix_with_fewer_components_than_tasks_is_averaged() -> None:
    many = experts(7, 0)
    torch.testing.assert_close(merged("tsv_m", many)["proj"], merged("weight_averaging", many)["proj"])


def ablated(deltas: list[npt.NDArray[np.float64]], share: int, orthogonal: bool) -> npt.NDArray[np.float64]:
    """Transcribe the ablations: ``share`` is by how much the rank is divided."""
    k = min(deltas[0].shape) // share
    u, s, v = (np.hstack(blocks) for blocks in zip(*(_components(delta, k) for delta in deltas), strict=True))
    if orthogonal:
        u, v = (p @ q for p, _, q in (np.linalg.svd(x, full_matrices=False) for x in (u, v)))
    product: npt.NDArray[np.float64] = u * s @ v.T
    return product


def _components(delta: npt.NDArray[np.float64], k: int) -> tuple[npt.NDArray[np.float64], ...]:
    u, s, vh = np.linalg.svd(delta, full_matrices=False)
    return u[:, :k], s[:k], vh[:k].T


@given(suites, seeds)
def test_ablations_are_one_half_of_algorithm_1_each(n_tasks: int, seed: int) -> None:
    task_vectors = experts(n_tasks, seed)
    for name, share, orthogonal in (("low_rank", n_tasks, False), ("interference_reduction", 1, True)):
        found = merged(name, task_vectors)
        for key in SHAPES:
            deltas = [vector[key].numpy() for vector in task_vectors]
            is_matrix = key in ("in_proj_weight", "proj")
            expected = torch.from_numpy(ablated(deltas, share, orthogonal)) if is_matrix else mean(task_vectors, key)
            torch.testing.assert_close(found[key], expected, rtol=1e-6, atol=1e-8)


@given(suites, seeds)
def test_eigen_form_is_the_procrustes_form(n_tasks: int, seed: int) -> None:
    task_vectors = experts(n_tasks, seed)
    assert_same(merged("tsv_m_eigen", task_vectors), merged("tsv_m", task_vectors))


def test_almost_equal_tasks_do_not_blow_up_the_eigen_form() -> None:
    task_vector = {key: tensor.float() for key, tensor in experts(1, 0)[0].items()}
    nudged = [{key: tensor * (1 + 1e-7 * task) for key, tensor in task_vector.items()} for task in range(3)]
    for name in ("tsv_m", "tsv_m_eigen"):
        assert merged(name, nudged)["proj"].norm() <= 3 * task_vector["proj"].norm()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_no_byte(workers: int) -> None:
    task_vectors = [{key: tensor.float() for key, tensor in expert.items()} for expert in experts(3, 0)]
    alone = merged("tsv_m", task_vectors)
    together = merging.merged_update(task_vectors, named("tsv_m"), workers=workers)
    assert all(torch.equal(alone[key], together[key]) for key in SHAPES)


def test_parts_of_a_tensor_are_merged_as_matrices_of_their_own() -> None:
    suite = MemorySuite(experts(3, 0))
    found = merging.update(named("tsv_m").bind(suite), suite, "in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    for part, rows in enumerate(found.chunk(3)):
        deltas = [expert["in_proj_weight"].chunk(3)[part].numpy() for expert in suite.task_vectors]
        torch.testing.assert_close(rows, torch.from_numpy(algorithm_1(deltas)), rtol=1e-6, atol=1e-8)


def test_matrices_are_all_task_matrices_in_the_order_asked_for() -> None:
    suite = MemorySuite(experts(2, 0))
    found = task_matrices(
        suite, ["proj", "bias", "text_projection", "in_proj_weight"], Computing(MatrixRule(split_qkv=True))
    )
    expected = [("proj", 0), *(("in_proj_weight", part) for part in range(3))]
    assert [(layer.key, layer.part) for layer in found] == expected


def test_kernels_can_be_merged_as_matrices() -> None:
    random = torch.Generator().manual_seed(0)
    kernels = [torch.randn(6, 3, 2, 2, dtype=torch.float64, generator=random) for _ in range(3)]
    suite = MemorySuite([{"conv1.weight": kernel} for kernel in kernels])
    found = merging.update(named("tsv_m").bind(suite), suite, "conv1.weight", Computing(MatrixRule(convolutions=True)))
    expected = torch.from_numpy(algorithm_1([kernel.flatten(1).numpy() for kernel in kernels]))
    torch.testing.assert_close(found, expected.reshape(6, 3, 2, 2), rtol=1e-6, atol=1e-8)
    averaged = merging.update(named("tsv_m").bind(suite), suite, "conv1.weight")
    torch.testing.assert_close(averaged, torch.stack(kernels).mean(0))


def parts_of(task_vectors: list[TaskVector]) -> list[TaskVector]:
    suite = MemorySuite(task_vectors)
    stacks = {key: tsv.tsv_m_parts(suite, key) for key in suite.shapes}
    return [TaskVector({key: stack[task] for key, stack in stacks.items()}) for task in range(suite.n_tasks)]


@given(suites, seeds)
def test_parts_of_tsv_m_add_up_to_it(n_tasks: int, seed: int) -> None:
    task_vectors = experts(n_tasks, seed)
    first, *others = parts_of(task_vectors)
    assert_same(sum(others, start=first), merged("tsv_m", task_vectors))


@given(suites, seeds)
def test_each_part_has_its_tasks_singular_values_and_no_share_in_other_parts(n_tasks: int, seed: int) -> None:
    task_vectors = experts(n_tasks, seed)
    parts = parts_of(task_vectors)
    for key in ("in_proj_weight", "proj"):
        k = min(SHAPES[key]) // n_tasks
        for number, (part, task_vector) in enumerate(zip(parts, task_vectors, strict=True)):
            kept = torch.linalg.svdvals(task_vector[key])[:k]
            torch.testing.assert_close(torch.linalg.svdvals(part[key])[:k], kept)
            for other in parts[:number]:
                for product in (part[key].T @ other[key], part[key] @ other[key].T):
                    assert product.abs().max() <= 1e-8 * kept[0] ** 2
    for part, task_vector in zip(parts, task_vectors, strict=True):
        for key in SHAPES.keys() - {"in_proj_weight", "proj"}:
            torch.testing.assert_close(part[key], task_vector[key] / n_tasks)


def test_parts_keep_their_tasks_where_others_changed_nothing() -> None:
    task_vectors = experts(4, 0)
    for task, key in ((0, "proj"), (2, "proj"), (1, "bias")):
        task_vectors[task][key].zero_()
    for task_vector in task_vectors:
        task_vector["in_proj_weight"].zero_()
    parts = parts_of(task_vectors)
    assert [bool(part["proj"].any()) for part in parts] == [False, True, False, True]
    assert [bool(part["bias"].any()) for part in parts] == [True, False, True, True]
    assert not any(part["in_proj_weight"].any() for part in parts)
    total, expected = parts[0] + parts[1] + parts[2] + parts[3], merged("tsv_m", task_vectors)
    for key in SHAPES.keys() - {"in_proj_weight"}:
        torch.testing.assert_close(total[key], expected[key])


def test_parts_need_two_experts() -> None:
    with pytest.raises(InputError, match="at least two experts, and there are 1"):
        tsv.tsv_m_parts(MemorySuite(experts(1, 0)), "proj")
