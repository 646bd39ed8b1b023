# SPDX-License-Identifier: MIT
"""Of a tensor that holds q, k and v, experts may have changed some: the others take no part and no room."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsvlib import checkpoints, merging
from tsvlib.compression import Rank, compressed, expanded
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import layers_of
from tsvlib.methods import UPDATES
from tsvlib.suites import CheckpointSuite, MemorySuite
from tsvlib.taskvectors import MatrixRule

KEY = "attn.in_proj_weight"
SPLIT = Computing(MatrixRule(split_qkv=True))
CHANGED = {0: (0, 1, 2), 1: (0, 2), 2: (1,)}
"""Which of q, k and v each expert changed."""


def vectors() -> list[dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    whole = [torch.randn(3, 6, 7, dtype=torch.float64, generator=random) for _ in CHANGED]
    for expert, parts in CHANGED.items():
        whole[expert][[part for part in range(3) if part not in parts]] = 0
    return [{KEY: tensor.flatten(0, 1)} for tensor in whole]


def test_a_part_yields_the_changes_of_the_experts_that_changed_it() -> None:
    suite = MemorySuite(vectors())
    for part, layer in enumerate(layers_of(suite, KEY, SPLIT)):
        found = dict(layer.numbered_changes())
        assert list(found) == [expert for expert, parts in CHANGED.items() if part in parts]
        for expert, change in found.items():
            assert torch.equal(change, suite.task_vectors[expert][KEY].chunk(3)[part])
        assert len(layer.factors(2)) == len(found)


@pytest.mark.parametrize("values", [[0.0, 2.0], [0.0, -2.0], [1.0, 2.0], [-1.0, 2.0]])
def test_a_change_of_any_sign_is_a_change(tmp_path: Path, values: list[float]) -> None:
    states = {"base": torch.tensor([1.0, -1.0]), "expert": torch.tensor([1.0, -1.0]) + torch.tensor(values)}
    for name, tensor in states.items():
        checkpoints.save(tmp_path / f"{name}.safetensors", {"w": tensor}, {})
    base, expert = (checkpoints.open_checkpoint(tmp_path / f"{name}.safetensors") for name in states)
    for suite in (
        CheckpointSuite(base, [base, expert]),
        MemorySuite([{"w": torch.zeros(2)}, {"w": torch.tensor(values)}]),
    ):
        ((number, change),) = suite.changes("w")
        assert number == 1
        assert change.tolist() == values


@pytest.mark.parametrize("name", ["tsv_m", "tsv_m_eigen", "low_rank", "interference_reduction"])
def test_merging_a_part_leaves_out_experts_that_did_not_change_it(name: str) -> None:
    experts, method = vectors(), UPDATES[name]
    suite = MemorySuite(experts)
    found = merging.update(method.bind(suite), suite, KEY, SPLIT)
    for part, rows in enumerate(found.chunk(3)):
        alone = MemorySuite([{"w": expert[KEY].chunk(3)[part]} for expert in experts])
        torch.testing.assert_close(rows, merging.update(method.bind(alone), alone, "w"))


@pytest.mark.parametrize("expert", CHANGED)
def test_a_compressed_tensor_comes_back_whichever_of_its_parts_were_changed(expert: int) -> None:
    vector = {KEY: vectors()[expert][KEY].float()}
    found = compressed(MemorySuite([vector]), KEY, Rank(fraction=1.0), computing=SPLIT)
    assert set(found) == {f"{KEY}:{part}:{name}" for part in CHANGED[expert] for name in ("u", "s", "vh")}
    restored = expanded(KEY, (18, 7), found, found.__getitem__)
    torch.testing.assert_close(restored, vector[KEY], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 7), (6, 7), (18, 6), (18,), ()])
@pytest.mark.parametrize("expert", CHANGED)
def test_parts_that_do_not_fit_the_tensor_are_refused(expert: int, shape: tuple[int, ...]) -> None:
    found = compressed(MemorySuite([vectors()[expert]]), KEY, Rank(fraction=1.0), computing=SPLIT)
    with pytest.raises(InputError, match="its factors do not make a tensor of shape"):
        expanded(KEY, shape, found, found.__getitem__)
