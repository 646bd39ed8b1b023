# SPDX-License-Identifier: MIT
"""Task vectors are differences, and only of models that match."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsvlib import checkpoints, taskvectors
from tsvlib.errors import InputError
from tsvlib.layers import CheckpointSuite, MemorySuite
from tsvlib.taskvectors import MatrixRule, TaskVector


def model(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    # Multiples of 1/8 add without rounding, in half precision too.
    shapes = {
        "visual.conv1.weight": (4, 3, 2, 2),
        "visual.proj": (4, 2),
        "visual.ln_pre.bias": (4,),
        "scale": (),
    }
    return {key: (torch.randint(-16, 16, shape, generator=random) / 8).to(dtype) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("key", "shape", "answer"),
    [
        ("visual.transformer.resblocks.0.attn.in_proj_weight", (12, 4), True),
        ("visual.positional_embedding", (5, 4), True),
        ("visual.proj", (4, 2), True),
        ("token_embedding.weight", (9, 4), True),
        ("text_projection", (4, 2), False),
        ("model.text_projection.weight", (4, 2), False),
        ("visual.conv1.weight", (4, 3, 2, 2), False),
        ("visual.class_embedding", (4,), False),
        ("logit_scale", (), False),
    ],
)
def test_which_parameters_are_task_matrices(key: str, shape: tuple[int, ...], answer: bool) -> None:
    assert taskvectors.MatrixRule().parts(key, shape) == int(answer)


def test_finer_rules_split_attention_and_take_kernels() -> None:
    finer = taskvectors.MatrixRule(split_qkv=True, convolutions=True)
    assert finer.parts("visual.transformer.resblocks.0.attn.in_proj_weight", (12, 4)) == 3
    assert finer.parts("visual.conv1.weight", (4, 3, 2, 2)) == 1
    assert finer.parts("visual.proj", (4, 2)) == 1
    assert finer.parts("text_projection", (4, 2)) == 0
    assert finer.parts("attn.in_proj_weight", (13, 4)) == 1
    assert finer.parts("empty", (0, 4)) == 0


@pytest.mark.parametrize("base_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_base_plus_task_vector_is_the_expert(base_dtype: torch.dtype) -> None:
    base, expert = model(0, base_dtype), model(1)
    delta = taskvectors.task_vector(base, expert)
    assert {tensor.dtype for tensor in delta.values()} == {torch.float32}
    rebuilt = delta.apply(base)
    assert list(rebuilt) == list(base)
    for key, tensor in rebuilt.items():
        assert tensor.dtype == base_dtype
        assert torch.equal(tensor, expert[key].to(base_dtype))


def test_alpha_scales_the_update() -> None:
    base, expert = model(0), model(1)
    halfway = taskvectors.task_vector(base, expert).apply(base, 0.5)
    for key, tensor in halfway.items():
        torch.testing.assert_close(tensor, (base[key] + expert[key]) / 2)


def test_half_precision_base_is_rounded_once() -> None:
    base, update = {"w": torch.ones(1, dtype=torch.float16)}, TaskVector({"w": torch.tensor([1e-4])})
    result = update.apply(base, 20.0)["w"]
    assert torch.equal(result, torch.tensor([1.002]).half())


def test_inputs_stay_as_they_were() -> None:
    base, expert = model(0), model(1)
    taskvectors.task_vector(base, expert).apply(base, 2.0)
    assert all(torch.equal(base[key], model(0)[key]) for key in base)
    assert all(torch.equal(expert[key], model(1)[key]) for key in expert)


def test_missing_and_extra_keys_are_named() -> None:
    expert = model(1)
    del expert["scale"]
    with pytest.raises(InputError, match=r"^mnist lacks `scale`; use checkpoints of one architecture\.$"):
        taskvectors.task_vector(model(0), expert, "mnist")
    many = model(1) | {f"extra.{number}": torch.zeros(1) for number in range(5)}
    sentence = r"^the base lacks `extra\.0`, `extra\.1`, `extra\.2` and 2 more keys; "
    with pytest.raises(InputError, match=sentence):
        taskvectors.task_vector(model(0), many)
    with pytest.raises(InputError, match="the update lacks `scale`"):
        TaskVector(expert).apply(model(0))


def test_misshapen_key_is_named() -> None:
    expert = model(1) | {"visual.proj": torch.zeros(2, 4)}
    with pytest.raises(InputError, match=r"`visual.proj` has shape \(4, 2\) in the base and \(2, 4\) in mnist"):
        taskvectors.task_vector(model(0), expert, "mnist")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    broken = model(1)
    broken["visual.proj"][1, 1] = value
    with pytest.raises(InputError, match=r"`visual\.proj` of mnist holds NaN or Inf"):
        taskvectors.task_vector(model(0), broken, "mnist")
    with pytest.raises(InputError, match=r"`visual\.proj` of the base holds NaN or Inf"):
        taskvectors.task_vector(broken, model(0), "mnist")


def test_whole_numbers_must_agree_and_are_no_change() -> None:
    state = {"steps": torch.tensor(3)}
    assert taskvectors.task_vector(state, state)["steps"] == 0
    with pytest.raises(InputError, match=r"`steps` of the base is of type torch\.int64"):
        taskvectors.task_vector(state, {"steps": torch.tensor(4)})


def test_arithmetic_is_that_of_vectors() -> None:
    base = model(0)
    one, two = (taskvectors.task_vector(base, model(seed)) for seed in (1, 2))
    combined = 2 * one - two * 0.5 + -two
    for key in base:
        assert torch.equal(combined[key], 2 * one[key] - 1.5 * two[key])
    flat = [torch.cat([vector[key].flatten() for key in base]) for vector in (one, two)]
    assert one.dot(two) == pytest.approx(float(flat[0] @ flat[1]))
    assert one.norm() == pytest.approx(float(flat[0].norm()))
    assert one.stored_bytes == 4 * len(flat[0])


def test_arithmetic_refuses_other_architectures() -> None:
    one = taskvectors.task_vector(model(0), model(1))
    other = TaskVector({key: tensor for key, tensor in one.items() if key != "scale"})
    for operation in (one.__add__, one.__sub__, one.dot):
        with pytest.raises(InputError, match="the second task vector lacks `scale`"):
            operation(other)


def suites(folder: Path, experts: list[dict[str, Tensor]]) -> tuple[MemorySuite, CheckpointSuite]:
    for name, state in {"base": model(0), **{str(number): state for number, state in enumerate(experts)}}.items():
        checkpoints.save(folder / f"{name}.safetensors", state, {})
    opened = [checkpoints.open_checkpoint(folder / f"{n}.safetensors") for n in ["base", *range(len(experts))]]
    in_memory = MemorySuite([taskvectors.task_vector(model(0), expert) for expert in experts])
    return in_memory, CheckpointSuite(opened[0], opened[1:])


def test_a_suite_on_disk_tells_what_one_in_memory_does(tmp_path: Path) -> None:
    in_memory, on_disk = suites(tmp_path, [model(1), model(0), model(2)])
    assert in_memory.n_tasks == on_disk.n_tasks == 3
    assert in_memory.shapes == on_disk.shapes
    for key in in_memory.shapes:
        left, right = list(in_memory.changes(key)), list(on_disk.changes(key))
        assert len(left) == len(right) <= 2
        assert [expert for expert, _ in left] == [expert for expert, _ in right]
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(left, right, strict=True))
    assert [expert for expert, _ in on_disk.changes("visual.proj")] == [0, 2]


def test_a_suite_on_disk_refuses_what_cannot_be_subtracted(tmp_path: Path) -> None:
    broken = model(1)
    broken["visual.proj"][0, 0] = float("nan")
    _, on_disk = suites(tmp_path, [model(2)])
    checkpoints.save(tmp_path / "0.safetensors", broken, {})
    on_disk = CheckpointSuite(on_disk.base, [checkpoints.open_checkpoint(tmp_path / "0.safetensors")])
    with pytest.raises(InputError, match=r"`visual\.proj` of .*0\.safetensors holds NaN or Inf"):
        list(on_disk.changes("visual.proj"))


@pytest.mark.parametrize(
    ("shape", "split", "kernels"),
    [
        ((14, 4), 1, 1),
        ((15, 4), 3, 3),
        ((16, 4), 1, 1),
        ((8, 3, 4), 0, 1),
        ((8, 3, 4, 4), 0, 1),
        ((3, 0), 0, 0),
        ((3,), 0, 0),
    ],
)
def test_how_many_task_matrices_a_tensor_holds(shape: tuple[int, ...], split: int, kernels: int) -> None:
    assert MatrixRule(split_qkv=True).parts("attn.in_proj_weight", shape) == split
    assert MatrixRule(split_qkv=True, convolutions=True).parts("attn.in_proj_weight", shape) == kernels
    assert MatrixRule().parts("attn.in_proj_weight", shape) == min(split, 1)
