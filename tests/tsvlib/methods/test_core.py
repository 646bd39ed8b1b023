# SPDX-License-Identifier: MIT
"""Merging adapters in their core is merging their whole matrices, which are never made."""

from collections.abc import Sequence
from pathlib import Path

import lora
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operations import Counter
from oracles import algorithm_1, orthonormal
from safetensors.torch import save_file
from torch import Tensor

from tsvlib import merging
from tsvlib.adapters import Thin
from tsvlib.checkpoints import open_checkpoint
from tsvlib.cli.workflows import Inputs
from tsvlib.computing import Computing
from tsvlib.layers import Layer, Suite, layers_of
from tsvlib.methods import IN_CORE, UPDATES
from tsvlib.methods.core import Core, core_of
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule, TaskVector

MODULES = {"q": (40, 24), "deep.v": (24, 36), "text_projection": (24, 24)}
# One that writes nothing by rule of layers, and those that draw numbers by the bits of what they see.
SMOOTH = sorted(UPDATES.keys() - {"dare", "wudi"})


def inputs(folder: Path, ranks: Sequence[int], dtype: torch.dtype = torch.float64) -> Inputs:
    """Write a base and an adapter of each rank, none for rank 0 but zeros, with scaling 1."""
    folder.mkdir(exist_ok=True)
    base = {f"{name}.weight": oracles.matrix(*shape, 99).to(dtype) for name, shape in MODULES.items()}
    save_file(base, folder / "base.safetensors")
    adapters = []
    for seed, rank in enumerate(ranks):
        found = lora.named(lora.pairs(MODULES, max(1, rank), seed, dtype))
        tensors = {name: x * bool(rank) for name, x in found.items()}
        adapters.append(lora.write(folder / f"adapter{seed}", tensors, r=max(1, rank), lora_alpha=max(1, rank)))
    return Inputs(folder / "base.safetensors", adapters)


def whole(ranks: Sequence[int], dtype: torch.dtype = torch.float64) -> list[TaskVector]:
    """Return the task vectors of adapters of that type, multiplied out in float64."""
    every = [lora.pairs(MODULES, max(1, rank), seed, dtype) for seed, rank in enumerate(ranks)]
    return [
        TaskVector({f"{name}.weight": bool(rank) * (b.double() @ a.double()) for name, (a, b) in sorted(found.items())})
        for rank, found in zip(ranks, every, strict=True)
    ]


def error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[key] - expected[key]).norm() / expected[key].norm()) for key in expected)


# With three tasks k is 8: ranks below, at and above it, and ones that differ.
RANKS = [(2, 2, 2), (8, 8, 8), (10, 9, 4), (1, 12, 3), (15, 1, 7)]


@pytest.mark.parametrize("ranks", RANKS)
def test_tsv_m_of_adapters_is_algorithm_1_on_whole_matrices(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    found = merging.merged_update(inputs(tmp_path, ranks).suite, "tsv-m")
    vectors = whole(ranks)
    for key in ("q.weight", "deep.v.weight"):
        expected = torch.from_numpy(algorithm_1([vector[key].numpy() for vector in vectors], floor=1e-12))
        assert (found[key] - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.parametrize(
    ("dtype", "names", "most"), [(torch.float64, SMOOTH, 1e-10), (torch.float32, sorted(IN_CORE), 3e-6)]
)
@pytest.mark.parametrize("ranks", [(2, 3, 4), (10, 9, 4)])
def test_every_method_is_the_same_on_adapters(
    tmp_path: Path, ranks: tuple[int, ...], dtype: torch.dtype, names: list[str], most: float
) -> None:
    suite, vectors = inputs(tmp_path, ranks, dtype).suite, whole(ranks, dtype)
    for name in names:
        assert error(merging.merged_update(suite, name), merging.merged_update(vectors, name)) <= most, name


@pytest.mark.parametrize("rule", [MatrixRule(), MatrixRule(split_qkv=True, convolutions=True)])
def test_adapters_of_kernels_follow_the_rule_of_matrices(tmp_path: Path, rule: MatrixRule) -> None:
    shapes = {"conv": ((2, 6, 2, 2), (20, 2, 1, 1)), "line": ((2, 9, 3), (12, 2, 1))}
    random = torch.Generator().manual_seed(0)
    paths, vectors = [], []
    base = {"conv.weight": torch.zeros(20, 6, 2, 2), "line.weight": torch.zeros(12, 9, 3)}
    save_file(base, tmp_path / "base.safetensors")
    for number in range(3):
        found = {name: [torch.randn(shape, generator=random) for shape in pair] for name, pair in shapes.items()}
        tensors = lora.named({name: (a, b) for name, (a, b) in found.items()})
        paths.append(lora.write(tmp_path / str(number), tensors))
        product = {f"{name}.weight": 2 * (b.flatten(1) @ a.flatten(1)) for name, (a, b) in found.items()}
        vectors.append({key: product[key].reshape(start.shape) for key, start in base.items()})
    suite, computing = Inputs(tmp_path / "base.safetensors", paths).suite, Computing(rule)
    for name in ("tsv-m", "weight-averaging"):
        found = merging.merged_update(suite, name, computing=computing)
        assert error(found, merging.merged_update(vectors, name, computing=computing)) <= 3e-6


def test_an_adapter_that_changes_nothing_is_left_out(tmp_path: Path) -> None:
    found = merging.merged_update(inputs(tmp_path, (3, 0, 4)).suite, "tsv-m")
    assert error(found, merging.merged_update(whole((3, 0, 4)), "tsv-m")) <= 1e-10
    assert not any(x.any() for x in merging.merged_update(inputs(tmp_path, (0, 0)).suite, "tsv-m").values())


def test_adapters_and_whole_models_are_merged_together(tmp_path: Path) -> None:
    adapters, vectors = inputs(tmp_path, (3, 10)), whole((3, 10))
    random = torch.Generator().manual_seed(5)
    change = {key: torch.randn(x.shape, generator=random, dtype=x.dtype) for key, x in vectors[0].items()}
    base = {key: adapters.base.read(key) for key in adapters.base.layout}
    save_file({key: base[key] + change[key] for key in base}, tmp_path / "whole.safetensors")
    paths = [adapters.experts[0].path, tmp_path / "whole.safetensors", adapters.experts[1].path]
    mixed = Inputs(adapters.base.path, paths)
    for name in SMOOTH:
        expected = merging.merged_update([vectors[0], change, vectors[1]], name)
        assert error(merging.merged_update(mixed.suite, name), expected) <= 1e-9, name


def cores(suite: Suite) -> list[Core | None]:
    return [core_of(layer) for key in suite.shapes for layer in layers_of(suite, key)]


def test_a_core_is_as_large_as_all_ranks_together(tmp_path: Path) -> None:
    for core in cores(inputs(tmp_path, (2, 3, 4)).suite):
        assert core is not None
        assert core.inner.shape == (9, 9)
        for side in (core.left, core.right):
            torch.testing.assert_close(side.mT @ side, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-12)


def test_there_is_no_core_where_it_would_not_be_smaller(tmp_path: Path) -> None:
    assert cores(inputs(tmp_path, (12, 12)).suite) == [None] * 3
    assert cores(MemorySuite(whole((2, 3)))) == [None] * 3


def test_methods_in_the_core_make_no_whole_matrix(tmp_path: Path) -> None:
    suite = inputs(tmp_path, (2, 1, 2), torch.float32).suite
    smallest = min(rows * columns for rows, columns in MODULES.values())
    for name in IN_CORE:
        function = UPDATES[name].bind(suite)
        for key in suite.shapes:
            with Counter() as counter:
                factors, energy = merging.components(function, suite, key, 3, Computing())
            assert counter.largest < smallest, name
            expected = merging.update(function, suite, key)
            assert abs(energy / float(expected.square().sum()) - 1) <= 1e-5
            s = torch.linalg.svdvals(expected)[:3]
            torch.testing.assert_close(factors.s, s, rtol=1e-4, atol=1e-5 * float(s[0]))


def test_methods_outside_of_the_core_have_the_same_components(tmp_path: Path) -> None:
    suite = inputs(tmp_path, (2, 1, 2)).suite
    function = UPDATES["ties"].bind(suite)
    factors, energy = merging.components(function, suite, "q.weight", 4)
    expected = merging.update(function, suite, "q.weight")
    torch.testing.assert_close(factors.s, torch.linalg.svdvals(expected)[:4])
    assert abs(energy / float(expected.square().sum()) - 1) <= 1e-12


@settings(max_examples=20)
@given(st.integers(2, 4), st.integers(0, 2**31), st.sampled_from([(14, 9), (9, 14), (12, 12)]))
def test_what_is_merged_in_the_core_turns_as_its_matrices_do(n_tasks: int, seed: int, shape: tuple[int, int]) -> None:
    rows, columns = shape
    deltas = [oracles.matrix(rows, columns, seed + task) for task in range(n_tasks)]
    q, p = orthonormal(rows, rows, seed), orthonormal(columns, columns, seed + 1)
    for name in IN_CORE:
        plain = merging.merged_update([{"w": delta} for delta in deltas], name)["w"]
        turned = merging.merged_update([{"w": q @ delta @ p} for delta in deltas], name)["w"]
        assert (turned - q @ plain @ p).norm() <= 1e-8 * plain.norm(), name


def test_low_rank_experts_decompose_faster_than_whole_ones(tmp_path: Path) -> None:
    def work(suite: Suite) -> float:
        (layer,) = layers_of(suite, "q.weight")
        with Counter() as counter:
            layer.factors(2)
        return counter.operations

    thin, experts = inputs(tmp_path, (2, 2, 2)), whole((2, 2, 2))
    assert work(thin.suite) < 0.5 * work(MemorySuite(experts))


def test_forms_of_a_layer_are_its_changes(tmp_path: Path) -> None:
    suite = inputs(tmp_path, (2, 0, 3)).suite
    layer = Layer(suite, "q.weight", 0, 1)
    forms = dict(layer.forms())
    assert list(forms) == [0, 1, 2]
    assert [number for number, _ in layer.numbered_changes()] == [0, 2]
    for number, change in layer.numbered_changes():
        form = forms[number]
        assert isinstance(form, Thin)
        torch.testing.assert_close(form.product(), change)


def test_the_base_is_not_read_where_all_changes_are_thin(tmp_path: Path) -> None:
    found = inputs(tmp_path, (2, 3))
    assert open_checkpoint(found.base.path).layout
    found.base.path.unlink()
    assert merging.merged_update(found.suite, "tsv-m").norm() > 0
