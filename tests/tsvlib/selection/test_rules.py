# SPDX-License-Identifier: MIT
"""Each tensor has one part in a merge, by a rule that a reader can write down."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.selection import Held, Selection, is_whole, left_out, select
from tsvlib.selection.patterns import matched

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
keys = st.sampled_from(["a.weight", "a.bias", "b.mask", "b.steps", "c.ids", "head.bias", "head.scale"])


def selected(*states: dict[str, Tensor], leave_out: Sequence[str] = ()) -> Selection:
    base, *experts = (Held(state, f"model {number}") for number, state in enumerate(states))
    return select(base, experts, leave_out)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE])
def test_whole_numbers_and_flags_are_told_by_their_type(dtype: torch.dtype) -> None:
    assert is_whole(dtype) == (dtype in WHOLE)
    assert not is_whole(torch.complex64)


@given(
    st.dictionaries(keys, st.sampled_from([*FLOATS, *WHOLE]), min_size=1),
    st.dictionaries(keys, st.sampled_from([*FLOATS, *WHOLE])),
    st.sets(keys),
)
def test_every_tensor_has_one_part_or_all_are_refused(
    base: dict[str, torch.dtype], expert: dict[str, torch.dtype], out: set[str]
) -> None:
    # Each tensor of a length of its own, so that none is taken for tied, and most are one number anyway.
    states = [{key: torch.ones(len(key), dtype=dtype) for key, dtype in each.items()} for each in (base, expert)]
    patterns = sorted(out & (base.keys() | expert.keys()))
    merged = {key for key, dtype in base.items() if dtype in FLOATS and key not in out}
    surplus = {key for key, dtype in expert.items() if dtype in FLOATS and key not in out and key not in base}
    if surplus or any(expert.get(key) not in FLOATS for key in merged):
        with pytest.raises(InputError, match="--leave-out"):
            selected(*states, leave_out=patterns)
        return
    found = selected(*states, leave_out=patterns)
    assert found.merged == tuple(key for key in base if key in merged)
    assert set(found.whole) == {key for key in base if key not in out} - merged
    assert found.left_out.keys() == out & base.keys()
    assert set(found.absent) == expert.keys() - base.keys()
    assert found.own == ({key: key for key in merged},)
    assert (dict(found.tied), found.notes) == ({}, ())


def test_whole_numbers_may_differ_in_anything() -> None:
    base = {"w": numbers(3), "ids": torch.arange(4), "steps": torch.tensor(1), "mask": torch.ones(2, 2).bool()}
    expert = {"w": numbers(3), "ids": torch.arange(9).int()[None], "mask": torch.ones(2, 2), "other": torch.arange(2)}
    found = selected(base, expert, base)
    assert found.merged == ("w",)
    assert found.whole == ("ids", "steps", "mask")
    assert found.absent == ("other",)


@pytest.mark.parametrize("key", ["q.weight", "q.qweight", "weight", "q.weight_packed", "experts.down_proj_blocks"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_quantised_weights_are_refused_unless_they_are_left_out(key: str, dtype: torch.dtype) -> None:
    state = {key: torch.ones(6, 4).to(dtype), "scales": numbers(6), "steps": torch.tensor([[1, 2]])}
    with pytest.raises(InputError, match=rf"^model 0: `{key}` holds whole numbers of type .* quantised .*--leave-out"):
        selected(state, state)
    assert selected(state, state, leave_out=[key]).merged == ("scales",)
    assert selected(state).whole == (key, "steps")


def test_what_an_expert_lacks_is_merged_from_what_it_is_tied_to() -> None:
    embedding = numbers(6, 4)
    base = {"embed": embedding, "head": embedding.clone(), "w": numbers(6, 4, seed=1), "b": torch.zeros(6, 4)}
    expert = {"embed": numbers(6, 4, seed=2), "w": base["w"], "b": base["b"]}
    found = selected(base, expert, expert)
    assert found.own == ({"embed": "embed", "w": "w", "b": "b", "head": "embed"},) * 2
    assert found.tied == {"head": "embed"}
    # One expert that holds both may have trained them apart.
    apart = selected(base, expert, expert | {"head": numbers(6, 4, seed=3)})
    assert apart.own[1]["head"] == "head"
    assert apart.tied == {}


def test_what_the_base_lacks_is_absent_if_it_is_tied_to_what_it_has() -> None:
    base = {"embed": numbers(6, 4), "w": numbers(3)}
    tied = {"embed": numbers(6, 4, seed=1), "w": numbers(3)}
    found = selected(base, tied | {"head": tied["embed"]}, tied | {"head": tied["embed"].clone()}, tied)
    assert found.absent == ("head",)
    assert found.merged == ("embed", "w")
    with pytest.raises(InputError, match=r"^model 0 lacks `head` of model 1; .* leave it out \(--leave-out 'head'"):
        selected(base, tied | {"head": numbers(6, 4, seed=2)})


def test_several_names_of_one_tensor_are_merged_as_one() -> None:
    shared, other = numbers(6, 4), numbers(6, 4, seed=1)
    names = ("decoder.embed", "encoder.embed", "lm_head", "shared")
    base = dict.fromkeys(names, shared) | {"w": numbers(3)}
    for expert in (dict.fromkeys(names, other), {"shared": other}, {"lm_head": other, "encoder.embed": other}):
        found = selected(base, expert | {"w": numbers(3)}, dict.fromkeys(names, shared) | {"w": numbers(3)})
        assert found.tied == dict.fromkeys(names[1:], names[0])
        assert set(found.own[0].values()) <= expert.keys() | {"w"}


def test_tensors_of_one_number_are_tied_only_by_their_memory() -> None:
    zeros = torch.zeros(5)
    with pytest.raises(InputError, match="model 1 lacks `b`"):
        selected({"a": zeros, "b": zeros.clone(), "w": numbers(2)}, {"a": zeros, "w": numbers(2)})
    found = selected({"a": zeros, "b": zeros, "w": numbers(2)}, {"a": numbers(5), "w": numbers(2)})
    assert found.own[0]["b"] == "a"


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ({"head.weight": (7, 4)}, r"model 1: `head.weight` has shape \(7, 4\), but \(10, 4\) in model 0; "),
        ({}, r"model 1 lacks `head.bias` and 1 more key of model 0; "),
        ({"head.bias": None}, r"model 1 lacks `head.bias` of model 0; "),
    ],
)
def test_heads_of_other_sizes_are_refused_and_can_be_left_out(
    head: dict[str, tuple[int, ...] | None], sentence: str
) -> None:
    whole = {"head.weight": (10, 4), "head.bias": (10,)}
    shapes = {key: shape for key, shape in (whole | head).items() if shape and head}
    base = {"w": numbers(5, 4)} | {key: numbers(*shape) for key, shape in whole.items()}
    expert = {"w": numbers(5, 4)} | {key: numbers(*shape) for key, shape in shapes.items()}
    with pytest.raises(InputError, match=rf"^{sentence}.*\(--leave-out 'head"):
        selected(base, expert)
    found = selected(base, expert, leave_out=["head"])
    assert found.merged == ("w",)
    assert found.left_out == dict.fromkeys(whole, "head")


def test_heads_that_experts_alone_have_can_be_left_out_and_are_absent() -> None:
    base = {"w": numbers(5, 4)}
    experts = [base | {"head.weight": numbers(n, 4), "head.bias": numbers(n)} for n in (10, 7)]
    with pytest.raises(InputError, match=r"^model 0 lacks `head.bias` and 1 more key of model 1; .*'head\.\*'"):
        selected(base, *experts)
    found = selected(base, *experts, leave_out=["head.*"])
    assert (found.merged, found.absent) == (("w",), ("head.bias", "head.weight"))


def test_complex_numbers_are_refused() -> None:
    state = {"w": torch.ones(2, dtype=torch.complex64)}
    with pytest.raises(InputError, match=r"`w` is of type torch\.complex64, which no method merges"):
        selected(state, state)


def test_wrappers_are_told() -> None:
    found = selected({"a": numbers(2), "b": numbers(3)}, {"module.a": numbers(2), "module.b": numbers(3)})
    assert found.own == ({"a": "module.a", "b": "module.b"},)
    assert found.notes == ("model 1: `module.a` is read as `a`, and 1 more name likewise.",)


NAMES = ["head.weight", "head.bias", "header.weight", "body.head.bias", "body.0.bias"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("head", NAMES[:2]),
        ("head.*", NAMES[:2]),
        ("head*", NAMES[:3]),
        ("*.bias", [NAMES[1], *NAMES[3:]]),
        ("body", NAMES[3:]),
        ("body.?", NAMES[4:]),
        ("*head", NAMES[:2] + NAMES[3:4]),
        ("head.bias", NAMES[1:2]),
        ("*", NAMES),
    ],
)
def test_a_pattern_is_a_tensor_or_a_part_of_the_model(pattern: str, found: list[str]) -> None:
    assert matched([pattern], NAMES, "a model") == dict.fromkeys(found, pattern)


@pytest.mark.parametrize("pattern", ["Head", "ead", "head.", "", "body.head.weight"])
def test_a_pattern_that_fits_nothing_is_a_mistake(pattern: str) -> None:
    with pytest.raises(InputError, match=r"^nothing in a model has a name like `.*`; .* such as `body\.0\.bias`\.$"):
        matched(["head", pattern], NAMES, "a model")


@given(st.sets(st.sampled_from(NAMES), min_size=1))
def test_what_a_sentence_suggests_leaves_out_just_what_it_is_about(odd: set[str]) -> None:
    others = set(NAMES) - odd
    text = left_out(odd, others)
    if "PATTERN" not in text:
        pattern = text.split("'")[1]
        assert matched([pattern], NAMES, "a model").keys() == odd
    else:
        assert len(odd) > 1
