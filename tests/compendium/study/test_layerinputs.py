# SPDX-License-Identifier: MIT
"""What linear layers are given is seen whatever an encoder is built of, and nothing else is taken for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from worlds import tables, tiny

from compendium import profiles
from compendium.study.layerinputs import layer_inputs
from compendium.worlds.clip import layouts
from compendium.worlds.mini import models
from compendium.worlds.minilm import encoder as texts
from tsvlib.taskvectors import StateDict

WIDTH = 6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def given(encoder: Callable[[StateDict, Tensor], Tensor], state: StateDict, inputs: Tensor) -> list[dict[str, Tensor]]:
    return [{key: torch.cat(x) for key, x in each.items()} for each in layer_inputs(encoder, state, inputs)]


def test_a_chain_of_functions_shows_what_each_layer_is_given() -> None:
    state = tables.start(24)
    rows = drawn(3, tables.COLUMNS)
    found = given(tables.mlp, state, rows)
    for n, seen in enumerate(found):
        hidden = rows[n : n + 1]
        for layer in range(tables.LAYERS):
            torch.testing.assert_close(seen.pop(f"body.{layer}.weight"), hidden)
            hidden = torch.tanh(hidden @ state[f"body.{layer}.weight"].T + state[f"body.{layer}.bias"])
        torch.testing.assert_close(seen.pop("out.weight"), hidden)
        assert not seen


@pytest.mark.parametrize("asks_first_alone", [False, True])
def test_fused_attention_shows_inputs_of_its_projections_and_of_its_output(asks_first_alone: bool) -> None:
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True).eval()
    state = dict(attention.named_parameters())
    tokens = drawn(2, 5, WIDTH)

    def encoder(weights: StateDict, x: Tensor) -> Tensor:
        asking = x[:, :1] if asks_first_alone else x
        return torch.func.functional_call(attention, dict(weights), (asking, x, x), {"need_weights": False})[0]

    for n, seen in enumerate(given(encoder, state, tokens)):
        rows = seen["in_proj_weight"]
        expected = torch.cat([tokens[n, :1], tokens[n]]) if asks_first_alone else tokens[n]
        torch.testing.assert_close(rows, expected)
        output = encoder(state, tokens[n : n + 1])[0].detach()
        mixed = seen["out_proj.weight"] @ state["out_proj.weight"].T + state["out_proj.bias"]
        torch.testing.assert_close(mixed.detach(), output)
    assert torch.backends.mha.get_fastpath_enabled()


def test_copies_of_weights_are_followed_to_another_type_and_side_by_side() -> None:
    state = {name: drawn(WIDTH, WIDTH, seed=n) for n, name in enumerate("qkv")} | {"out": drawn(4, WIDTH, seed=3)}

    def encoder(weights: StateDict, x: Tensor) -> Tensor:
        whole = torch.cat([weights[name] for name in "qkv"]).to(torch.float64)
        mixed = torch.nn.functional.linear(x.double(), whole)[:, :WIDTH]
        return torch.nn.functional.linear(mixed, weights["out"].double())

    rows = drawn(2, WIDTH, seed=4)
    for n, seen in enumerate(given(encoder, state, rows)):
        for name in "qkv":
            assert torch.equal(seen[name], rows[n : n + 1].double())
        torch.testing.assert_close(seen["out"], rows[n : n + 1].double() @ state["q"].double().T)


def test_what_stands_the_other_way_round_is_no_linear_layer() -> None:
    state = {"proj": drawn(WIDTH, WIDTH), "bias": drawn(WIDTH)}
    assert given(lambda weights, x: x @ weights["proj"] + weights["bias"], state, drawn(2, WIDTH)) == [{}, {}]


def test_products_of_activations_are_none_even_where_weights_lay_before() -> None:
    state = {"w": drawn(WIDTH, WIDTH)}

    def encoder(weights: StateDict, x: Tensor) -> Tensor:
        weights["w"].double()  # a copy that nothing holds
        similar = x.double()[0].outer(x.double()[0])
        return x.double() @ similar.T

    assert given(encoder, state, drawn(8, WIDTH)) == [{}] * 8


def linear(state: StateDict, keys: Callable[[str], bool]) -> set[str]:
    return {key for key in state if keys(key)}


def test_every_linear_layer_of_a_clip_is_seen_with_the_tokens_of_one_image() -> None:
    model = models.load_base("smoke", "smoke-b32")
    state, visual = models.encoder_state(model), model.visual
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = given(lambda weights, x: models.features(visual, weights, x), state, images)
    inside = linear(state, lambda key: "resblocks" in key and key.endswith("weight") and ".ln_" not in key)
    assert set(found[0]) == inside
    assert {x.shape[1] for key, x in found[0].items() if "c_proj" not in key} == {visual.proj.shape[0]}
    tokens = len(visual.positional_embedding)
    assert len(found[0]["visual.transformer.resblocks.0.mlp.c_fc.weight"]) == tokens


def test_a_clip_in_the_layout_of_transformers_shows_the_same() -> None:
    model = models.load_base("smoke", "smoke-b32")
    state, visual = models.encoder_state(model), model.visual
    images = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    (ours,) = given(lambda weights, x: models.features(visual, weights, x), state, images)

    def encoder(weights: StateDict, x: Tensor) -> Tensor:
        return models.features(visual, layouts.fused(weights, state["visual.proj"].T), x)

    (theirs,) = given(encoder, layouts.split(state), images)
    query = "vision_model.encoder.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(theirs[query], ours["visual.transformer.resblocks.0.attn.in_proj_weight"])


def test_texts_are_read_one_at_a_time_so_that_no_padding_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write(tmp_path)
    folder = profiles.folder
    monkeypatch.setattr(profiles, "folder", lambda name: tmp_path / name if name == "tiny" else folder(name))
    monkeypatch.setattr(profiles, "available", lambda: ("tiny",))
    model = texts.load_base("tiny", "tiny-l1")
    state = texts.encoder_state(model)
    tokens = torch.tensor([[101, 2000, 2001, 2002, 102], [101, 2000, 102, 0, 0]])
    found = given(lambda weights, x: texts.features(model, weights, x), state, tokens)
    keys = linear(state, lambda key: key.endswith("weight") and "LayerNorm" not in key)
    assert set(found[0]) == set(found[1]) == keys
    assert [{len(x) for x in seen.values()} for seen in found] == [{5}, {3}]
