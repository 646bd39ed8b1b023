# SPDX-License-Identifier: MIT
"""What means nearly the same as a text of an earlier split leaves, and has left."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from worlds import tiny

from compendium import profiles
from compendium.worlds.minilm import encoder, texts
from compendium.worlds.minilm.extraction import nearness
from compendium.worlds.protocol import SPLITS


def test_validation_leaves_for_training_and_the_test_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "data")
    folder = profiles.folder
    monkeypatch.setattr(profiles, "folder", lambda name: tmp_path / "data" / name if name == "tiny" else folder(name))
    monkeypatch.setattr(profiles, "available", lambda: ("tiny",))
    rows = [
        ("the king of France", "train"), ("the king of France", "train"), ("The King of France", "validation"),
        ("seventeen green bottles", "validation"), ("THE KING of France", "test"), ("seventeen green Bottles", "test"),
        ("quite another matter", "test"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["text", "split"])
    kept = nearness.far(frame, encoder.load_base("tiny", "tiny-l2"))
    assert list(kept.index) == [0, 1, 3, 6]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(texts.TASKS))
def test_no_text_means_nearly_the_same_as_one_of_another_split(name: str) -> None:
    model = encoder.load_base("minilm", nearness.JUDGE)
    train, validation, test = (
        encoder.encode(model, encoder.tokenize(texts.load(name, split).texts)) for split in SPLITS
    )
    assert float(nearness.closest(validation, train).max()) < nearness.NEAR + 1e-4
    assert float(nearness.closest(test, torch.cat([train, validation])).max()) < nearness.NEAR + 1e-4


def test_digests_are_written_as_they_are_pinned() -> None:
    assert nearness.digests() == (profiles.folder("minilm") / "digests.toml").read_text(encoding="utf-8")
