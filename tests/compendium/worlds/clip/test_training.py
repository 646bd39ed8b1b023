# SPDX-License-Identifier: MIT
"""Fine-tuning shows what open_clip shows, steps by the protocol, and comes to the same bytes however interrupted."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import checkout
import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compendium.worlds import finetuning
from compendium.worlds.clip import crops, images, models, training
from tsvlib import checkpoints
from tsvlib.errors import InputError

from . import real_checkpoints, tiny_training
from .tiny_training import BACKBONE, CHOSEN, COUNT, EPOCHS, SETTINGS, pictures, train

SIZES = [(224, 224), (1, 1), (7, 300), (300, 7), (28, 28), (225, 224), (640, 427), (333, 501), (500, 370)]


@pytest.fixture(autouse=True)
def described(tmp_path: Path) -> Iterator[None]:
    with real_checkpoints.tiny_backbones(tmp_path / "described"):
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of what an uninterrupted training comes to."""
    folder = tmp_path_factory.mktemp("whole")
    with real_checkpoints.tiny_backbones(folder / "described"):
        return checkpoints.state_digest(train(folder))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_seen_of_an_image_is_what_open_clip_shows(mode: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels).convert(mode) if mode != "P" else Image.fromarray(pixels[..., :3]).quantize(64)
    transform = open_clip.image_transform(224, is_train=True)
    for seed in range(3):
        torch.manual_seed(seed)
        theirs = transform(image)
        ours = crops.cut(image, 224, torch.Generator().manual_seed(seed))
        assert ours.dtype == torch.uint8
        assert torch.equal(images.normalise(ours[None])[0], theirs)


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2**31))
def test_parts_lie_inside_and_are_large_where_the_image_is_not_too_long(width: int, height: int, seed: int) -> None:
    top, left, rows, columns = crops.box(width, height, torch.Generator().manual_seed(seed))
    assert 0 <= top <= top + rows <= height
    assert 0 <= left <= left + columns <= width
    assert rows > 0 < columns
    if min(width, height) > 50 and 0.85 < width / height < 1.15:
        assert 0.87 < rows * columns / (width * height) <= 1


def seen(seed: int, number: int, workers: int = 1) -> list[tuple[int, bytes]]:
    found = crops.epoch(pictures(), CHOSEN, 32, seed, number, workers)
    return [(place, pixels.numpy().tobytes()) for place, pixels in found]


def test_each_epoch_shows_every_image_once_in_another_order_and_another_part() -> None:
    epochs = [seen(0, number) for number in range(3)]
    places = [[place for place, _ in epoch] for epoch in epochs]
    assert all(sorted(order) == list(range(COUNT)) for order in places)
    assert len({tuple(order) for order in places}) == 3
    assert len({dict(epoch)[4] for epoch in epochs}) == 3


def test_what_is_shown_depends_on_seed_and_epoch_alone() -> None:
    before = torch.random.get_rng_state()
    assert seen(0, 1) == seen(0, 1, workers=3)
    torch.manual_seed(99)
    assert seen(0, 1) == seen(0, 1)
    assert seen(0, 1) != seen(1, 1)
    torch.random.set_rng_state(before)
    seen(0, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_expert_learns_its_task(tmp_path: Path) -> None:
    state, task = train(tmp_path, epochs=12), tiny_training.data()
    shown = torch.stack([images.preprocess(tiny_training.picture(number), 32) for number in range(12)])
    features = models.encode(models.image_encoder(BACKBONE, state), shown)
    assert (features @ task.head.T).argmax(1).equal(task.pictures.labels)


def test_steps_are_those_of_the_protocol(tmp_path: Path) -> None:
    task = tiny_training.data()
    visual = models.image_encoder(BACKBONE, real_checkpoints.encoder(BACKBONE, None)).requires_grad_(True)
    optimiser = torch.optim.AdamW(visual.parameters(), lr=1.0, weight_decay=SETTINGS.weight_decay, foreach=False)
    per_epoch = math.ceil(COUNT / SETTINGS.batch_size)
    for step in range(EPOCHS * per_epoch):
        epoch, place = divmod(step, per_epoch)
        batch = list(crops.epoch(task.pictures, CHOSEN, 32, 0, epoch, 1))[4 * place : 4 * place + 4]
        features = models.encode(visual, torch.stack([pixels for _, pixels in batch]))
        labels = torch.tensor([int(task.pictures.labels[CHOSEN[place]]) for place, _ in batch])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(features @ task.head.T, labels).backward()
        torch.nn.utils.clip_grad_norm_(visual.parameters(), SETTINGS.clip_norm)
        optimiser.param_groups[0]["lr"] = SETTINGS.learning_rate * finetuning.schedule(step, EPOCHS * per_epoch, 2)
        optimiser.step()
    state = train(tmp_path)
    assert state.keys() == real_checkpoints.encoder(BACKBONE, None).keys()
    for key, tensor in visual.state_dict().items():
        torch.testing.assert_close(state[f"visual.{key}"], tensor, rtol=1e-3, atol=1e-5)


def test_a_batch_may_be_shown_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    encode = models.encode
    monkeypatch.setattr(models, "encode", lambda visual, pixels: shown.append(len(pixels)) or encode(visual, pixels))
    whole = train(tmp_path, epochs=1)
    assert shown == [4, 4, 2]
    monkeypatch.setattr(training, "TOGETHER", {BACKBONE: 3})
    parts = train(tmp_path, epochs=1)
    assert shown[3:] == [3, 1, 3, 1, 2]
    # Where a gradient is nearly nothing, its last bits decide where Adam goes; that is so for few numbers.
    assert max(float((parts[key] - tensor).abs().mean()) for key, tensor in whole.items()) < 1e-5


def test_the_number_of_workers_changes_no_byte(tmp_path: Path, expected: str) -> None:
    assert checkpoints.state_digest(train(tmp_path, workers=3)) == expected


def test_seeds_differ_and_nothing_else_is_touched(tmp_path: Path, expected: str) -> None:
    start, random = real_checkpoints.encoder(BACKBONE, None), torch.random.get_rng_state()
    before = checkpoints.state_digest(start)
    unfinished = training.Unfinished(tmp_path / "unfinished", {})
    plan = dataclasses.replace(tiny_training.PLAN, seed=1)
    state = training.finetune(start, tiny_training.data(), plan, unfinished, tiny_training.CPU)
    assert checkpoints.state_digest(state) != expected
    assert checkpoints.state_digest(start) == before
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(tensor.dtype == torch.float32 and not tensor.requires_grad for tensor in state.values())


@pytest.mark.parametrize("killed_at", [0, 3, 10, 13, 20, 29])
def test_an_interrupted_training_comes_to_the_same_bytes(tmp_path: Path, expected: str, killed_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, pictures(killed_at, KeyboardInterrupt()))
    kept = tmp_path / "expert.unfinished"
    done = killed_at // COUNT
    assert kept.exists() == (done > 0)
    if done:
        assert checkpoints.recipe(kept)["epoch"] == done
    # What the finished epochs showed is not decoded again.
    left = (EPOCHS - done) * COUNT
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, pictures(left - 1, KeyboardInterrupt()))
    assert checkpoints.state_digest(train(tmp_path)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [10, 15])
def test_a_killed_process_is_continued_to_the_same_bytes(tmp_path: Path, expected: str, killed_at: int) -> None:
    killed = run(tmp_path, killed_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoints.recipe(tmp_path / "expert.unfinished")["epoch"] == 1
    resumed = run(tmp_path, -1)
    assert resumed.stdout.strip() == expected, resumed.stderr


def run(folder: Path, killed_at: int) -> "subprocess.CompletedProcess[str]":
    code = f"import tiny_training; tiny_training.main({str(folder)!r}, '{killed_at}')"
    places = os.pathsep.join([checkout.roots(), str(Path(__file__).parent)])
    words, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": places}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [damaged, lambda file: file.write_bytes(b"")])
def test_what_is_damaged_is_not_taken_up(tmp_path: Path, expected: str, harm) -> None:
    with suppress(KeyboardInterrupt):
        train(tmp_path, pictures(15, KeyboardInterrupt()))
    harm(tmp_path / "expert.unfinished")
    assert checkpoints.state_digest(train(tmp_path)) == expected


def test_what_was_kept_by_another_recipe_is_not_taken_up(tmp_path: Path, expected: str) -> None:
    with suppress(KeyboardInterrupt):
        train(tmp_path, pictures(15, KeyboardInterrupt), seed=1, recipe={"of": "another seed"})
    assert checkpoints.state_digest(train(tmp_path)) == expected


def test_divergence_is_told_and_not_kept(tmp_path: Path) -> None:
    endless = dataclasses.replace(SETTINGS, learning_rate=math.inf)
    with pytest.raises(InputError, match=r"diverged: .* lower 'learning_rate'"):
        train(tmp_path, settings=endless)
    assert not (tmp_path / "expert.unfinished").exists()


def test_a_damaged_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="put it there again"):
        train(tmp_path, pictures(5, InputError("5.png: no image; put it there again.")))


def test_every_epoch_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"expert: epoch {number} of 3 is done" for number in (1, 2, 3)]
