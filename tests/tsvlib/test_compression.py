# SPDX-License-Identifier: MIT
"""Compression keeps the leading components of matrices, and everything else bit by bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import linalg
from tsvlib.compression import Compressed, Rank, check_names, compress, compressed, expanded
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

seeds = st.integers(0, 2**32 - 1)
MATRICES = {"attn.in_proj_weight": (24, 8), "proj": (6, 10)}
OTHERS = {"text_projection": (6, 6), "conv1.weight": (4, 3, 2, 2), "bias": (5,), "logit.s": (3,), "scale": ()}


def task_vector(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=random) for key, shape in (MATRICES | OTHERS).items()}


def share(fraction: float) -> Rank:
    return Rank(fraction=fraction)


@given(st.sampled_from([0.01, 1 / 20, 1 / 14, 1 / 8, 0.5]), seeds)
def test_loss_is_the_tail_of_each_spectrum(fraction: float, seed: int) -> None:
    original = task_vector(seed)
    restored = compress(original, share(fraction)).expand()
    assert restored.keys() == original.keys()
    for key in OTHERS:
        assert torch.equal(restored[key], original[key])
    for key in MATRICES:
        spectrum = torch.linalg.svdvals(original[key])
        tail = spectrum[linalg.kept_rank(len(spectrum), fraction) :]
        torch.testing.assert_close((restored[key] - original[key]).norm(), tail.norm(), rtol=1e-4, atol=1e-5)


def test_everything_kept_is_everything_restored() -> None:
    original = task_vector(0)
    restored = compress(original, share(1.0)).expand()
    for key, tensor in original.items():
        torch.testing.assert_close(restored[key], tensor, rtol=1e-4, atol=1e-5)


@given(st.sampled_from(["0.01", "1/8", "0.5", "3", "energy=0.8"]), seeds)
def test_shortening_is_compressing_to_less(text: str, seed: int) -> None:
    original, rank = task_vector(seed), Rank.parse(text)
    direct, shortened = compress(original, rank), compress(original, share(1.0)).shorten(rank)
    assert shortened.shapes == direct.shapes
    assert {key: tensor.shape for key, tensor in shortened.tensors.items()} == {
        key: tensor.shape for key, tensor in direct.tensors.items()
    }
    for key, tensor in shortened.expand().items():
        torch.testing.assert_close(tensor, direct.expand()[key], rtol=1e-4, atol=1e-5)


def test_components_that_are_gone_cannot_be_kept() -> None:
    with pytest.raises(InputError, match="has only 2 components left, not 4; compress it anew"):
        compress(task_vector(0), share(0.25)).shorten(share(0.5))


@given(st.sampled_from([0.3, 0.9, 0.99]), seeds)
def test_energy_keeps_the_fewest_components_that_hold_it(energy: float, seed: int) -> None:
    original = task_vector(seed)
    found = compress(original, Rank(energy=energy)).tensors
    for key in MATRICES:
        spectrum = torch.linalg.svdvals(original[key].double()).square()
        k = len(found[f"{key}:s"])
        assert spectrum[:k].sum() >= energy * spectrum.sum() * (1 - 1e-6)
        assert spectrum[: k - 1].sum() < energy * spectrum.sum()


def test_energy_is_that_of_all_components_or_refused() -> None:
    original, energy = {"w": torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))}, Rank.parse("energy=0.9")
    assert compress(original, Rank.parse("1.0")).shorten(energy).tensors["w:s"].tolist() == pytest.approx([4, 3, 2])
    with pytest.raises(InputError, match="`w` has only 2 components left, not 4; compress it anew"):
        compress(original, Rank.parse("2")).shorten(energy)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_energy_has_no_scale(scale: float) -> None:
    original = {"w": torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)) * scale**10}
    assert len(compress(original, Rank.parse("energy=0.9")).tensors["w:s"]) == 3
    assert len(compress({"w": original["w"].div(scale**9).float()}, Rank.parse("energy=0.9")).tensors["w:s"]) == 3


def test_float64_is_compressed_in_float64() -> None:
    original = {"w": torch.randn(9, 6, dtype=torch.float64), "b": torch.randn(3, dtype=torch.float64)}
    found = compress(original, share(1.0))
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float64}
    for key, tensor in found.expand().items():
        torch.testing.assert_close(tensor, original[key], rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-7, 1e7])
def test_narrow_factors_hold_singular_values_that_their_type_does_not(scale: float) -> None:
    delta = scale * torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    found = compressed(MemorySuite([{"w": delta}]), "w", share(1.0), torch.float16)
    restored = expanded("w", (30, 20), found, found.__getitem__)
    assert (restored - delta).norm() <= 2e-3 * delta.norm()


def test_names_and_shapes_of_the_factors() -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in compress(task_vector(0), share(1 / 4)).tensors.items()}
    expected = {"attn.in_proj_weight": ((24, 2), (2,), (2, 8)), "proj": ((6, 1), (1,), (1, 10))}
    factors = {
        f"{key}:{part}": shape
        for key, parts in expected.items()
        for part, shape in zip(("u", "s", "vh"), parts, strict=True)
    }
    assert shapes == factors | OTHERS


def test_stored_bytes_count_values_in_their_own_type() -> None:
    others = 36 + 48 + 5 + 3 + 1
    whole = 4 * (2 * (24 + 8 + 1) + 1 * (6 + 10 + 1) + others)
    assert compress(task_vector(0), share(1 / 4)).stored_bytes == whole
    assert Compressed({"w": torch.zeros(3, dtype=torch.float16)}, {"w": (3,)}).stored_bytes == 6


def test_factors_take_no_more_memory_than_they_say() -> None:
    found = compress(task_vector(0), share(1 / 4))
    for each in (found, compress(task_vector(0), share(1.0)).shorten(Rank.parse("2"))):
        assert sum(tensor.untyped_storage().nbytes() for tensor in each.tensors.values()) == each.stored_bytes


def test_parts_are_factorised_one_by_one() -> None:
    original = task_vector(0)
    suite, computing = MemorySuite([original]), Computing(MatrixRule(split_qkv=True, convolutions=True))
    key = "attn.in_proj_weight"
    found = compressed(suite, key, share(1.0), computing=computing)
    assert set(found) == {f"{key}:{part}:{name}" for part in range(3) for name in ("u", "s", "vh")}
    restored = expanded(key, (24, 8), found, found.__getitem__)
    torch.testing.assert_close(restored, original[key], rtol=1e-4, atol=1e-5)
    kernel = compressed(suite, "conv1.weight", share(1.0), torch.float16, computing)
    # Singular values are few, and may be beyond the narrow type.
    assert [tensor.dtype for tensor in kernel.values()] == [torch.float16, torch.float32, torch.float16]
    restored = expanded("conv1.weight", (4, 3, 2, 2), kernel, kernel.__getitem__)
    torch.testing.assert_close(restored, original["conv1.weight"], rtol=1e-2, atol=1e-2)


def test_a_part_that_was_not_touched_takes_no_room() -> None:
    key, computing = "attn.in_proj_weight", Computing(MatrixRule(split_qkv=True))
    for part in range(3):
        original = task_vector(0)[key]
        original[8 * part : 8 * part + 8] = 0
        found = compressed(MemorySuite([{key: original}]), key, share(1.0), computing=computing)
        assert {name.split(":")[1] for name in found} == {"0", "1", "2"} - {str(part)}
        restored = expanded(key, (24, 8), found, found.__getitem__)
        torch.testing.assert_close(restored, original, rtol=1e-4, atol=1e-5)


stems = st.sampled_from(["in_proj_weight", "w", "b"])
tails = st.lists(st.sampled_from(["", ":u", ":s", ":vh", ":0", ":2", ":3", ":x"]), max_size=3).map("".join)
names = st.builds(str.__add__, stems, tails)


@given(st.dictionaries(names, st.booleans(), min_size=1, max_size=6), seeds)
def test_no_tensor_is_taken_for_factors_of_another(touched: dict[str, bool], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    shapes = {key: (3,) if key.startswith("b") else (6, 3) for key in touched}
    original = {key: torch.randn(shape, generator=random) * touched[key] for key, shape in shapes.items()}
    suite, computing = MemorySuite([original]), Computing(MatrixRule(split_qkv=True))
    try:
        check_names(original)
    except InputError:
        tails = [f"{part}{factor}" for part in ("", ":0", ":1", ":2") for factor in ("", ":u", ":s", ":vh")]
        assert any(key != other and key in {f"{other}{tail}" for tail in tails} for key in touched for other in touched)
        with pytest.raises(InputError, match="the task vector: a TSV-C file could not tell"):
            compress(original, share(1.0))
        return
    parts = [compressed(suite, key, share(1.0), computing=computing) for key in original]
    packed = {name: tensor for part in parts for name, tensor in part.items()}
    assert len(packed) == sum(map(len, parts))
    for key, tensor in original.items():
        restored = expanded(key, shapes[key], packed, packed.__getitem__)
        torch.testing.assert_close(restored, tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (["a", "a:u"], "`a:u` from factors of `a`"),
        (["a:0:vh", "a"], "`a:0:vh` from factors of `a`"),
        (["a", "a:2"], "`a:2` from factors of `a`"),
        (["dense:0", "dense:0:s"], "`dense:0:s` from factors of `dense:0`"),
    ],
)
def test_names_that_factors_would_take(keys: list[str], refused: str) -> None:
    check_names({"dense/kernel:0", "dense/bias:0", "a.u", "a", "a:3", "a:x", "u", "s", ":u"})
    with pytest.raises(InputError, match=f"{refused}; rename one of the two tensors"):
        check_names(set(keys), "base.safetensors")


def test_factors_that_do_not_fit_are_refused() -> None:
    found = compress(task_vector(0), share(1.0)).tensors
    with pytest.raises(InputError, match=r"`proj`: its factors do not make a tensor of shape \(6, 9\)"):
        expanded("proj", (6, 9), found, found.__getitem__)
    del found["proj:s"]
    with pytest.raises(InputError, match="`proj`: its factors do not make"):
        expanded("proj", (6, 10), found, found.__getitem__)
    with pytest.raises(InputError, match="its factors do not make a tensor of shape"):
        expanded("proj", (), found, found.__getitem__)


def test_what_was_not_touched_takes_no_room() -> None:
    original = {"proj": torch.zeros(4, 3), "bias": torch.zeros(2), "other": torch.ones(2)}
    found = compress(original, share(0.5))
    assert set(found.tensors) == {"other"}
    assert all(torch.equal(found.expand()[key], tensor) for key, tensor in original.items())


@pytest.mark.parametrize("fraction", [0.0, 1.5, -1.0])
def test_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="choose one above 0 and up to 1"):
        compress(task_vector(0), share(fraction))


@pytest.mark.parametrize(
    ("text", "most", "count"),
    [("1/8", 768, 96), ("1/14", 768, 54), ("0.1", 50, 5), (".5", 9, 4), ("1.0", 7, 7), ("64", 768, 64), ("64", 8, 8)],
)
def test_ranks_as_they_are_written(text: str, most: int, count: int) -> None:
    assert Rank.parse(text).count(most) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-1",
        "0/3",
        "3/2",
        "1/0",
        "1.5",
        "energy=0",
        "energy=0.0",
        "energy=2",
        "energy",
        "half",
        "nan",
    ],
)
def test_what_is_no_rank_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no rank; write a share such as 1/8"):
        Rank.parse(text)
