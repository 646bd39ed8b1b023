# SPDX-License-Identifier: MIT
"""Names that wrappers give are read as those of the base, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsvlib.selection import aligned
from tsvlib.selection.names import told

BASE = {"visual.proj", "visual.ln.bias", "layers.0.attn.weight", "layers.1.attn.weight", "logit_scale"}
words = st.text("abcd", min_size=1, max_size=3)
names = st.lists(words, min_size=1, max_size=4).map(".".join)


def wrapped(name: str, *places: tuple[int, str]) -> str:
    parts = name.split(".")
    for place, wrapper in places:
        parts.insert(min(place, len(parts)), wrapper)
    return ".".join(parts)


@given(st.sets(names, min_size=1, max_size=12))
def test_models_of_the_same_names_stay_as_they_are(base: set[str]) -> None:
    assert aligned(base, base) == {name: name for name in base}


@given(
    st.sets(names, min_size=2, max_size=12),
    st.lists(st.sampled_from(["module", "_orig_mod"]), min_size=1, max_size=3),
    st.booleans(),
)
def test_wrappers_before_all_names_are_taken_off_on_either_side(
    base: set[str], wrappers: list[str], of_base: bool
) -> None:
    prefix = "".join(f"{wrapper}." for wrapper in wrappers)
    other = {f"{prefix}{name}" for name in base}
    found = aligned(base, other) if of_base else aligned(other, base)
    assert found == {f"{prefix}{name}" if of_base else name: name if of_base else f"{prefix}{name}" for name in base}


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_wrappers_between_layers_are_taken_out_too(wrapper: str, place: int) -> None:
    own = {wrapped(name, (place, wrapper)) for name in BASE if name.count(".") >= place}
    own |= {name for name in BASE if name.count(".") < place}
    found = aligned(own, BASE)
    assert found.keys() == BASE
    assert all(name.replace(f"{wrapper}.", "") == base for base, name in found.items())


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.model.", "clip.visual_tower.", "module.model."])
@pytest.mark.parametrize("of_base", [False, True])
def test_one_prefix_of_any_kind_is_taken_off_or_put_before(prefix: str, of_base: bool) -> None:
    other = {f"{prefix}{name}" for name in BASE}
    found = aligned(BASE, other) if of_base else aligned(other, BASE)
    assert found == dict(zip(*((sorted(other), sorted(BASE))[:: 1 if of_base else -1]), strict=True))


def test_a_head_beside_the_prefix_keeps_its_name_and_one_behind_it_loses_it() -> None:
    own = {f"model.{name}" for name in BASE} | {"lm_head.weight", "model.score.weight"}
    found = aligned(own, BASE)
    assert found == {name: f"model.{name}" for name in (*BASE, "score.weight")} | {"lm_head.weight": "lm_head.weight"}
    assert aligned(BASE, own) == {f"model.{name}": name for name in BASE}


def test_of_several_models_in_one_file_the_usual_one_is_read() -> None:
    own = {f"{prefix}.{name}" for prefix in ("model", "model_ema") for name in BASE}
    found = aligned(own, BASE)
    assert {name: found[name] for name in BASE} == {name: f"model.{name}" for name in BASE}
    assert len(found) == len(own)


def test_of_several_unknown_models_none_is_guessed() -> None:
    own = {f"{prefix}.{name}" for prefix in ("one", "two") for name in BASE}
    assert aligned(own, BASE) == {name: name for name in own}


@pytest.mark.parametrize(
    ("own", "base"),
    [
        ({"a", "b", "head.bias"}, {"a", "b", "bias"}),  # a head is not what the base has under a shorter name
        ({"module.a", "a"}, {"a"}),  # what is there under its own name is that
        ({"x.module.w", "x.w"}, {"x.module.w", "x.w"}),
        ({"left.w", "left.b"}, {"right.w", "right.b"}),
    ],
)
def test_other_names_are_left_alone(own: set[str], base: set[str]) -> None:
    assert aligned(own, base) == {name: name for name in own}


@given(st.sets(names, max_size=8), st.sets(names, max_size=8))
def test_no_tensor_is_lost_or_doubled(own: set[str], base: set[str]) -> None:
    found = aligned(own, base)
    assert sorted(found.values()) == sorted(own)
    assert all(found[name] == name for name in own & base)


def test_what_was_read_otherwise_is_told() -> None:
    assert told({"a": "a"}) == ""
    assert told({"a": "module.a", "c": "c"}) == "`module.a` is read as `a`"
    assert told({"b": "m.b", "a": "m.a"}) == "`m.a` is read as `a`, and 1 more name likewise"
    assert told({"b": "m.b", "a": "m.a", "c": "m.c"}) == "`m.a` is read as `a`, and 2 more names likewise"
