# SPDX-License-Identifier: MIT
"""Compression keeps the leading components of matrices, and everything else bit by bit."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import checkpoints, compression, linalg
from tsvlib.errors import InputError

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

seeds = st.integers(0, 2**32 - 1)
MATRICES = {"attn.in_proj_weight": (24, 8), "proj": (6, 10)}
OTHERS = {"text_projection": (6, 6), "conv1.weight": (4, 3, 2, 2), "bias": (5,), "logit.s": (3,), "scale": ()}


def task_vector(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=random) for key, shape in (MATRICES | OTHERS).items()}


@given(st.sampled_from([0.01, 1 / 20, 1 / 14, 1 / 8, 0.5]), seeds)
def test_loss_is_the_tail_of_each_spectrum(fraction: float, seed: int) -> None:
    original = task_vector(seed)
    restored = compression.expand(compression.compress(original, fraction))
    assert restored.keys() == original.keys()
    for key in OTHERS:
        assert torch.equal(restored[key], original[key])
    for key in MATRICES:
        spectrum = torch.linalg.svdvals(original[key])
        tail = spectrum[linalg.kept_rank(len(spectrum), fraction) :]
        torch.testing.assert_close((restored[key] - original[key]).norm(), tail.norm(), rtol=1e-4, atol=1e-5)


def test_everything_kept_is_everything_restored() -> None:
    original = task_vector(0)
    restored = compression.expand(compression.compress(original, 1.0))
    for key, tensor in original.items():
        torch.testing.assert_close(restored[key], tensor, rtol=1e-4, atol=1e-5)


@given(st.sampled_from([0.01, 1 / 8, 0.5]), seeds)
def test_shortening_is_compressing_to_less(fraction: float, seed: int) -> None:
    original = task_vector(seed)
    direct, shortened = compression.compress(original, fraction), compression.compress(original, 1.0)
    shortened = compression.shorten(shortened, fraction)
    assert shortened.keys() == direct.keys()
    assert all(torch.equal(shortened[key], tensor) for key, tensor in direct.items())


def test_components_that_are_gone_cannot_be_kept() -> None:
    with pytest.raises(InputError, match="has only 2 components left, not 4; compress it anew"):
        compression.shorten(compression.compress(task_vector(0), 0.25), 0.5)


def test_names_and_shapes_of_the_factors() -> None:
    compressed = compression.compress(task_vector(0), 1 / 4)
    shapes = {key: tuple(tensor.shape) for key, tensor in compressed.items()}
    expected = {"attn.in_proj_weight": ((24, 2), (2,), (2, 8)), "proj": ((6, 1), (1,), (1, 10))}
    factors = {
        key + part: shape
        for key, parts in expected.items()
        for part, shape in zip((".u", ".s", ".vh"), parts, strict=True)
    }
    assert shapes == factors | OTHERS


def test_stored_bytes_count_values_in_their_own_type() -> None:
    compressed = compression.compress(task_vector(0), 1 / 4)
    others = 36 + 48 + 5 + 3 + 1
    assert compression.stored_bytes(compressed) == 4 * (2 * (24 + 8 + 1) + 1 * (6 + 10 + 1) + others)
    assert compression.stored_bytes({"w": torch.zeros(3, dtype=torch.float16)}) == 6


def test_factors_take_no_more_memory_than_they_say() -> None:
    compressed = compression.compress(task_vector(0), 1 / 4)
    held = sum(tensor.untyped_storage().nbytes() for tensor in compressed.values())
    assert held == compression.stored_bytes(compressed)


def test_factors_survive_a_file(tmp_path: Path) -> None:
    compressed = compression.compress(task_vector(0), 1 / 4)
    checkpoints.save(tmp_path / "factors", compressed, {})
    again, direct = compression.expand(checkpoints.load(tmp_path / "factors")), compression.expand(compressed)
    assert again.keys() == direct.keys()
    assert all(torch.equal(again[key], direct[key]) for key in direct)


@pytest.mark.parametrize("key", ["x.u", "x.s", "x.vh"])
def test_parameter_that_is_named_like_a_factor_stays_itself(key: str) -> None:
    original = {key: torch.ones(3)}
    restored = compression.expand(compression.compress(original, 0.5))
    assert restored.keys() == {key}


def test_untrained_matrix_stays_zero() -> None:
    restored = compression.expand(compression.compress({"proj": torch.zeros(4, 3)}, 0.5))
    assert torch.equal(restored["proj"], torch.zeros(4, 3))


@pytest.mark.parametrize("fraction", [0.0, 1.5, -1.0])
def test_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="choose one above 0 and up to 1"):
        compression.compress(task_vector(0), fraction)
