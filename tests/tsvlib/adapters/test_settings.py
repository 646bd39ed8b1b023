# SPDX-License-Identifier: MIT
"""Settings of an adapter say how its matrices count, and what they might mean otherwise is refused by name."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsvlib.adapters import settings
from tsvlib.adapters.settings import Settings
from tsvlib.errors import InputError

# What PEFT 0.21.2 writes for LoraConfig(r=2, lora_alpha=4, target_modules=["q"]).
WRITTEN = json.loads(
    """{"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": {"base_model_class":
    "M", "parent_library": "__main__"}, "base_model_name_or_path": null, "bias": "none", "corda_config": null,
    "ensure_weight_tying": false, "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false,
    "inference_mode": true, "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
    "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 4, "lora_bias": false,
    "lora_dropout": 0.0, "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core",
    "modules_to_save": null, "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2",
    "qalora_group_size": 16, "r": 2, "rank_pattern": {}, "revision": null, "target_modules": ["q"],
    "target_parameters": null, "task_type": null, "trainable_token_indices": null, "use_bdlora": null,
    "use_dora": false, "use_qalora": false, "use_rslora": false, "velora_config": null}"""
)


def read(folder: Path, **changes: Any) -> Settings:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(WRITTEN | changes))
    return settings.read(file)


def test_scaling_is_alpha_over_rank_or_over_its_root(tmp_path: Path) -> None:
    assert read(tmp_path).scaling("q") == 2.0
    assert read(tmp_path, r=9, lora_alpha=6, use_rslora=True).scaling("q") == 2.0
    assert read(tmp_path, lora_alpha=0.5).scaling("q") == 0.25


def test_patterns_name_modules_by_their_end_or_whole(tmp_path: Path) -> None:
    found = read(tmp_path, rank_pattern={"k": 8, "^deep.q": 4}, alpha_pattern={r"layers\.(0|1)\.v": 12, "q": 1})
    assert [found.rank(name) for name in ("k", "a.k", "ak", "deep.q", "a.deep.q", "a.q")] == [8, 8, 2, 4, 2, 2]
    assert found.scaling("x.layers.1.v") == 6.0
    assert found.scaling("deep.q") == 0.25


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "LOHA"}, "the adapter is of the kind 'LOHA'"),
        ({"peft_type": "IA3"}, "the adapter is of the kind 'IA3'"),
        ({"peft_type": None}, "the adapter is of the kind None"),
        ({"use_dora": True}, "`use_dora` is set, so the adapter is DoRA,"),
        ({"kasa_config": {"beta": 0.1}}, "so the adapter is KaSA,"),
        ({"alora_invocation_tokens": [1, 2]}, "so the adapter is activated LoRA,"),
        ({"layer_replication": [[0, 4]]}, "so the adapter is repeated layers,"),
        ({"target_parameters": ["experts.w"]}, "so the adapter is LoRA of parameters"),
        ({"trainable_token_indices": [5]}, "so the adapter is trainable tokens,"),
        ({"use_tomorrow": True}, "`use_tomorrow` is set, which is not known here"),
        ({"tomorrow_config": {"x": 1}}, "`tomorrow_config` is set, which is not known here"),
        ({"init_lora_weights": "pissa"}, "the adapter began as 'pissa', which changes the base as well"),
        ({"init_lora_weights": "pissa_niter_4"}, "the adapter began as 'pissa_niter_4'"),
        ({"init_lora_weights": "loftq"}, "the adapter began as 'loftq'"),
        ({"r": 0}, "`r` is 0, no rank"),
        ({"r": True}, "`r` is True, no rank"),
        ({"r": "8"}, "`r` is '8', no rank"),
        ({"lora_alpha": None}, "`lora_alpha` is None, no finite number"),
        ({"lora_alpha": math.nan}, "`lora_alpha` is nan, no finite number"),
        ({"rank_pattern": {"q": 0}}, "`rank_pattern` is 0, no rank"),
        ({"alpha_pattern": {"q": "x"}}, "`alpha_pattern` is 'x', no finite number"),
        ({"rank_pattern": ["q"]}, "`rank_pattern` is no JSON object"),
        ({"rank_pattern": {"q(": 2}}, "'q(' in `rank_pattern` is no pattern of names"),
        ({"rank_pattern": {"(a+)+$": 2}}, "'(a+)+$' in `rank_pattern` could be searched for endlessly"),
        ({"alpha_pattern": {".*.*.*.*x": 2}}, "'.*.*.*.*x' in `alpha_pattern` could be searched for endlessly"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    file = re.escape(str(tmp_path / "adapter_config.json"))
    with pytest.raises(InputError, match=rf"^{file}: [^\n]*{re.escape(reason)}[^\n]*\.$"):
        read(tmp_path, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"},
        {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
        {"modules_to_save": ["head"], "bias": "all", "lora_bias": True},
        {"megatron_config": {"x": 1}, "eva_config": {"rho": 2.0}},
        {"group_size_of_tomorrow": 16, "core_of_tomorrow": "x", "use_tomorrow": False, "tomorrow_config": {}},
    ],
)
def test_what_changes_no_matrix_is_left_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert read(tmp_path, **changes).scaling("q") == 2.0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'"LORA"', b"NaN"])
def test_damaged_settings_are_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(file))}: the settings are no[^\n]* JSON[^\n]*\.$"):
        settings.read(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file is missing"):
        settings.read(tmp_path / "adapter_config.json")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(WRITTEN)), values, max_size=4))
def test_any_settings_are_read_or_refused_in_one_sentence(tmp_path_factory, changes: dict[str, Any]) -> None:
    try:
        found = read(tmp_path_factory.mktemp("settings"), **changes)
    except InputError as error:
        told = str(error)
    else:
        told = f"{found.scaling('model.layers.0.q')}."
    assert re.fullmatch(r"[^\n]+\.", told)
