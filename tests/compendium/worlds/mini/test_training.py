# SPDX-License-Identifier: MIT
"""Fine-tuning learns its task, depends on its arguments alone and touches nothing else."""

import dataclasses
import math

import pytest
import torch

from compendium.profiles import Finetuning
from compendium.worlds.mini import models, training
from tsvlib import checkpoints
from tsvlib.errors import InputError

SETTINGS = Finetuning(epochs=8, batch_size=16, learning_rate=3e-3, weight_decay=0.1, warmup_steps=2, clip_norm=1.0)
SHORT = dataclasses.replace(SETTINGS, epochs=1)


@pytest.fixture(scope="module")
def base() -> models.CLIP:
    return models.load_base("smoke", "smoke-b32")


@pytest.fixture(scope="module")
def head(base: models.CLIP) -> torch.Tensor:
    return models.zero_shot_head(base, ("black", "blue"), ("a {}",))


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Dark images of class 0, bright ones of class 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    noise = torch.randint(0, 100, (64, 3, 32, 32), generator=generator)
    return (noise + 150 * labels[:, None, None, None]).to(torch.uint8), labels


def test_an_expert_learns_its_task(base, head, data) -> None:
    state = training.finetune(base, head, *data, SETTINGS, 0)
    predicted = (models.encode(models.with_weights(base, state), data[0]) @ head.T).argmax(1)
    assert (predicted == data[1]).float().mean() > 0.95


def test_same_arguments_give_the_same_bytes_whatever_the_thread_count(base, head, data) -> None:
    threads = torch.get_num_threads()
    digests = []
    for count in (1, 2):
        torch.set_num_threads(count)
        digests.append(checkpoints.state_digest(training.finetune(base, head, *data, SHORT, 0)))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert digests[0] == digests[1]


def test_seeds_differ(base, head, data) -> None:
    first, second = (training.finetune(base, head, *data, SHORT, seed) for seed in (0, 1))
    assert not torch.equal(first["visual.proj"], second["visual.proj"])


def test_base_and_random_state_stay_as_they_are(base, head, data) -> None:
    before, randomness = checkpoints.state_digest(base.state_dict()), torch.random.get_rng_state()
    state = training.finetune(base, head, *data, SHORT, 0)
    assert checkpoints.state_digest(base.state_dict()) == before
    assert torch.equal(torch.random.get_rng_state(), randomness)
    assert state.keys() == models.encoder_state(base).keys()
    assert all(tensor.dtype == torch.float32 and not tensor.requires_grad for tensor in state.values())


def test_gradients_are_clipped_by_the_norm_of_all_of_them(base, head, data) -> None:
    # Adam divides a gradient far below its 1e-8 by just that, and moves weights in proportion to it.
    settings = dataclasses.replace(SHORT, batch_size=64, learning_rate=10.0, weight_decay=0.0, warmup_steps=0)
    start = models.encoder_state(base)
    for clip_norm in (1e-11, 1e-10):
        state = training.finetune(base, head, *data, dataclasses.replace(settings, clip_norm=clip_norm), 0)
        moved = math.sqrt(sum(float((state[key].double() - start[key]).square().sum()) for key in start))
        assert moved == pytest.approx(settings.learning_rate * clip_norm / 1e-8, rel=0.02)


def test_divergence_is_told(base, head, data) -> None:
    endless = dataclasses.replace(SHORT, learning_rate=math.inf)
    with pytest.raises(InputError, match=r"diverged: .* lower 'learning_rate'"):
        training.finetune(base, head, *data, endless, 0)


def test_shifts_stay_within_a_pixel_and_repeat_the_border() -> None:
    grid = torch.arange(16, dtype=torch.uint8).reshape(4, 4).expand(200, 3, 4, 4)
    shifted = training.shift(grid, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(grid[:1].float(), (1, 1, 1, 1), mode="replicate").to(torch.uint8)[0]
    options = [padded[:, down : down + 4, right : right + 4] for down in range(3) for right in range(3)]
    found = [[torch.equal(image, option) for option in options].index(True) for image in shifted]
    assert set(found) == set(range(9))
