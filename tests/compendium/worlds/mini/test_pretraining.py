# SPDX-License-Identifier: MIT
"""Pretraining: the loss, resumption after a kill, and what the shipped weights say of themselves."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch

from compendium import profiles
from compendium.worlds.mini import models, pretraining
from compendium.worlds.mini.datasets import world
from compendium.worlds.mini.pretraining import Pretraining, contrastive_loss
from tsvlib import checkpoints

TINY = Pretraining(images_seen=32, batch_size=8, warmup_steps=1)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write caches and weights below a temporary folder."""
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path))
    monkeypatch.setattr(models, "weights_file", lambda profile, name: tmp_path / "weights" / f"{name}.safetensors")
    (tmp_path / "weights").mkdir()
    return tmp_path


@pytest.fixture
def data(tmp_path: Path) -> pretraining.Captioned:
    return pretraining.load_world(tmp_path / "world", [0], 400)


def test_the_loss_is_that_of_two_cross_entropies_when_every_caption_is_different() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    own, none = torch.eye(5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)
    target = torch.arange(5)
    expected = sum(torch.nn.functional.cross_entropy(x, target) for x in (logits, logits.T)) / 2
    torch.testing.assert_close(contrastive_loss(logits, own, none), expected)


def test_captions_of_the_same_concept_do_not_push_each_other_away() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    ignored = ~torch.eye(2, dtype=torch.bool)
    loss = contrastive_loss(logits, ~ignored, ignored)
    assert loss.item() == 0
    assert contrastive_loss(logits, ~ignored, torch.zeros_like(ignored)) > 0.5


def test_images_that_share_a_caption_share_its_target() -> None:
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    positive = torch.tensor([[True, False], [True, False], [False, True]])
    swapped = contrastive_loss(logits[[1, 0, 2]], positive, torch.zeros_like(positive))
    torch.testing.assert_close(contrastive_loss(logits, positive, torch.zeros_like(positive)), swapped)


@pytest.mark.slow
def test_a_world_is_drawn_once_and_keeps_captions_beside_their_images(
    tmp_path: Path, data: pretraining.Captioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = [caption for _, caption, _ in world.captioned(0, 400)]
    assert [data.texts[i] for i in data.captions] == captions
    monkeypatch.setattr(world, "captioned", lambda *_: pytest.fail("drawn again"))
    again = pretraining.load_world(tmp_path / "world", [0], 400)
    assert torch.equal(again.images, data.images)


@pytest.mark.slow
def test_training_continues_where_it_was_killed(
    tmp_path: Path, data: pretraining.Captioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "KEEP_EVERY", 2)
    whole = pretraining.train("smoke", "smoke-b32", TINY, data, data)
    (tmp_path / "data/cache/smoke/pretraining/smoke-b32.pt").unlink()
    step = pretraining._step

    def killed(*arguments: object) -> float:
        if arguments[3] == 3:
            raise KeyboardInterrupt
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pretraining, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        pretraining.train("smoke", "smoke-b32", TINY, data, data)
    monkeypatch.setattr(pretraining, "_step", step)
    resumed = pretraining.train("smoke", "smoke-b32", TINY, data, data)
    assert checkpoints.state_digest(resumed.state_dict()) == checkpoints.state_digest(whole.state_dict())


def test_gradients_are_clipped_by_the_norm_of_all_of_them() -> None:
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    data = pretraining.Captioned(images, torch.arange(8) % 2, torch.arange(8) % 2, ("a black clock", "a blue clock"))
    # Adam divides a gradient far below its 1e-8 by just that, and moves weights in proportion to it.
    config = dataclasses.replace(TINY, images_seen=8, learning_rate=10.0, weight_decay=0.0, clip_norm=1e-10)
    start = models.create("smoke", "smoke-b32", config.seed).state_dict()
    state = pretraining.train("smoke", "smoke-b32", config, data, data).state_dict()
    moved = sum(float((state[key].double() - start[key]).square().sum()) for key in start) ** 0.5
    assert moved == pytest.approx(config.learning_rate * config.clip_norm / 1e-8, rel=0.02)


@pytest.mark.slow
def test_training_lowers_the_loss_and_logs_it(
    tmp_path: Path, data: pretraining.Captioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "KEEP_EVERY", 10)
    pretraining.train("smoke", "smoke-b32", dataclasses.replace(TINY, images_seen=2560, batch_size=32), data, data)
    log = pd.read_csv(tmp_path / "weights/smoke-b32.log.csv")
    assert list(log.step) == list(range(10, 81, 10))
    assert log.loss.iloc[-1] < log.loss.iloc[0]
    assert log["mean"].between(0, 1).all()
    assert log["latin"].between(0, 1).all()


@pytest.mark.slow
def test_weights_ship_in_half_precision_with_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "CHUNK", 40)
    monkeypatch.setattr(pretraining, "WORLD_CHUNKS", 1)
    monkeypatch.setattr(pretraining, "HELD_OUT_IMAGES", 300)
    monkeypatch.setattr(models, "vocabulary_file", lambda: tmp_path / "vocabulary.txt")
    models.word_ids.cache_clear()
    pretraining.pretrain("smoke", ["smoke-b32"], TINY)
    models.word_ids.cache_clear()
    file = models.weights_file("smoke", "smoke-b32")
    assert {tensor.dtype for tensor in checkpoints.load(file).values()} == {torch.float16}
    assert checkpoints.recipe(file)["pretraining"] == dataclasses.asdict(TINY)


def test_the_committed_vocabulary_is_that_of_the_world(tmp_path: Path) -> None:
    pretraining.write_vocabulary(tmp_path / "vocabulary.txt")
    committed = profiles.folder("mini") / "vocabulary.txt"
    assert (tmp_path / "vocabulary.txt").read_bytes() == committed.read_bytes()
