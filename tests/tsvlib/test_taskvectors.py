# SPDX-License-Identifier: MIT
"""Task vectors are differences, and only of models that match."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsvlib import checkpoints, merging, taskvectors
from tsvlib.compression import Rank, compress
from tsvlib.errors import InputError
from tsvlib.suites import CheckpointSuite, MemorySuite
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
    with pytest.raises(
        InputError,
        match=r"^mnist lacks `scale` of the base; .* leave it out \(--leave-out 'scale'",
    ):
        taskvectors.task_vector(model(0), expert, "mnist")
    many = model(1) | {f"extra.{number}": torch.zeros(1) for number in range(5)}
    sentence = r"^the base lacks `extra\.0` and 4 more keys of the expert; .* leave them out \(--leave-out 'extra\.\*'"
    with pytest.raises(InputError, match=sentence):
        taskvectors.task_vector(model(0), many)
    with pytest.raises(InputError, match="the update lacks `scale`"):
        TaskVector(expert).apply(model(0))


def test_misshapen_key_is_named() -> None:
    expert = model(1) | {"visual.proj": torch.zeros(2, 4)}
    with pytest.raises(InputError, match=r"^mnist: `visual.proj` has shape \(2, 4\), but \(4, 2\) in the base; "):
        taskvectors.task_vector(model(0), expert, "mnist")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    broken = model(1)
    broken["visual.proj"][1, 1] = value
    with pytest.raises(InputError, match=r"`visual\.proj` of mnist holds NaN or Inf"):
        taskvectors.task_vector(model(0), broken, "mnist")
    with pytest.raises(InputError, match=r"`visual\.proj` of the base holds NaN or Inf"):
        taskvectors.task_vector(broken, model(0), "mnist")


def test_whole_numbers_are_no_change() -> None:
    state = {"steps": torch.tensor(3), "flags": torch.tensor([True, False]), "w": torch.ones(2)}
    found = taskvectors.task_vector(state, {"steps": torch.tensor(4), "flags": torch.ones(3).int(), "w": torch.ones(2)})
    assert {key: tensor.tolist() for key, tensor in found.items()} == {"steps": 0, "flags": [0, 0], "w": [0, 0]}
    moved = TaskVector(found | {"steps": torch.tensor(9), "w": torch.ones(2)}).apply(state, 3.0)
    assert {key: tensor.tolist() for key, tensor in moved.items()} == {"steps": 3, "flags": [True, False], "w": [4, 4]}


def test_what_is_left_out_is_no_change() -> None:
    base, expert = model(0), model(1) | {"head.weight": torch.ones(3)}
    found = taskvectors.task_vector(base, expert, leave_out=["head", "visual.ln*"])
    assert found.keys() == base.keys()
    assert not found["visual.ln_pre.bias"].any()
    assert torch.equal(found["visual.proj"], expert["visual.proj"] - base["visual.proj"])


def test_what_is_the_same_may_hold_anything() -> None:
    mask = torch.full((3, 3), -torch.inf).triu(1) + torch.tensor([0.0, torch.nan, 0.0])
    for dtypes in ((torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.float16, torch.float64)):
        base, expert = ({"mask": mask.to(dtype), "w": torch.zeros(2, dtype=dtype)} for dtype in dtypes)
        found = taskvectors.task_vector(base, expert | {"w": torch.ones(2, dtype=dtypes[1])})
        assert not found["mask"].any()
        moved = found.apply(base)
        assert torch.equal(moved["mask"].isnan(), base["mask"].isnan())
        assert torch.equal(moved["mask"].nan_to_num(), base["mask"].nan_to_num())
        assert moved["w"].tolist() == [1, 1]


def test_names_of_wrappers_and_ties_are_seen_through() -> None:
    shared = torch.randn(4, 2)
    base = {"embed.weight": shared, "head.weight": shared, "w": torch.zeros(3)}
    expert = {"module.embed.weight": shared + 1, "module.w": torch.ones(3)}
    found = taskvectors.task_vector(base, expert)
    assert list(found) == list(base)
    assert torch.equal(found["head.weight"], found["embed.weight"])
    torch.testing.assert_close(found["embed.weight"], torch.ones(4, 2))


def test_parameters_of_a_model_are_taken_without_their_graph() -> None:
    models = [torch.nn.Linear(5, 4) for _ in range(3)]
    base, *experts = (dict(each.named_parameters()) for each in models)
    vectors = [taskvectors.task_vector(base, expert) for expert in experts]
    by_hand = [TaskVector({key: expert[key] - base[key] for key in base}) for expert in experts]
    assert by_hand[0]["weight"].requires_grad
    for mine in (vectors, by_hand):
        merged = merging.merged_update(mine)
        assert not any(tensor.requires_grad for tensor in merged.values())
        assert not any(tensor.requires_grad for tensor in merged.apply(base).values())
        assert not any(tensor.requires_grad for tensor in compress(mine[0], Rank.parse("2")).tensors.values())
        assert mine[0].norm() == pytest.approx(mine[0].dot(mine[0]) ** 0.5)


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
