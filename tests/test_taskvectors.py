# SPDX-License-Identifier: MIT
"""Task vectors are differences, and only of models that match."""

import pytest
import torch
from torch import Tensor

from tsvlib import taskvectors
from tsvlib.errors import InputError


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
    assert taskvectors.is_task_matrix(key, torch.zeros(shape)) is answer


@pytest.mark.parametrize("base_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_base_plus_task_vector_is_the_expert(base_dtype: torch.dtype) -> None:
    base, expert = model(0, base_dtype), model(1)
    delta = taskvectors.task_vector(base, expert)
    assert {tensor.dtype for tensor in delta.values()} == {torch.float32}
    rebuilt = taskvectors.apply(base, delta, 1.0)
    assert list(rebuilt) == list(base)
    for key, tensor in rebuilt.items():
        assert tensor.dtype == base_dtype
        assert torch.equal(tensor, expert[key].to(base_dtype))


def test_alpha_scales_the_update() -> None:
    base, expert = model(0), model(1)
    halfway = taskvectors.apply(base, taskvectors.task_vector(base, expert), 0.5)
    for key, tensor in halfway.items():
        torch.testing.assert_close(tensor, (base[key] + expert[key]) / 2)


def test_half_precision_base_is_rounded_once() -> None:
    base, update = {"w": torch.ones(1, dtype=torch.float16)}, {"w": torch.tensor([1e-4])}
    result = taskvectors.apply(base, update, 20.0)["w"]
    assert torch.equal(result, torch.tensor([1.002]).half())


def test_inputs_stay_as_they_were() -> None:
    base, expert = model(0), model(1)
    taskvectors.apply(base, taskvectors.task_vector(base, expert), 2.0)
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
        taskvectors.apply(model(0), expert, 1.0)


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


def test_integers_are_refused() -> None:
    state = {"steps": torch.tensor(3)}
    with pytest.raises(InputError, match=r"`steps` of the base is of type torch\.int64"):
        taskvectors.task_vector(state, state)
