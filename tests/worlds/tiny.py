# SPDX-License-Identifier: MIT
"""The folder of the profile ``tiny``: the minilm world with random models."""

import json
import shutil
from pathlib import Path

CONFIG = {
    "hidden_act": "gelu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_attention_heads": 2,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}


def write(data: Path) -> None:
    """Write the profile to ``data/tiny``."""
    (data / "tiny" / "models").mkdir(parents=True)
    shutil.copy(Path(__file__).with_suffix(".toml"), data / "tiny" / "profile.toml")
    for layers in (1, 2):
        file = data / "tiny" / "models" / f"tiny-l{layers}.json"
        file.write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}), encoding="utf-8")
