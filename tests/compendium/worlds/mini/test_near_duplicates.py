# SPDX-License-Identifier: MIT
"""No validation or test image of mini is nearly one that was seen before: every pair, pixel by pixel."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch import Tensor

from compendium import profiles
from compendium.worlds.mini import datasets, pretraining
from compendium.worlds.mini.datasets import world
from compendium.worlds.protocol import SPLITS

STATED = 3.0
"""Root mean square of the differences of 0-255 pixels; data/mini/README.md states it."""
PART = 4096
"""How many images are compared with all others at once."""


def drawn(task: str) -> list[np.ndarray]:
    """Return the pixels of the splits of a task."""
    samples = profiles.load("mini").samples
    return [datasets.load(task, name, getattr(samples, name)).inputs[:].flatten(1).numpy() for name in SPLITS]


def pretrained_on(seed: int) -> np.ndarray:
    """Return the pixels of one chunk of the captioned world."""
    images = [image for image, _, _ in world.captioned(seed, pretraining.CHUNK)]
    return np.stack(images).transpose(0, 3, 1, 2).reshape(len(images), -1)


def near(images: Tensor, others: Tensor) -> list[tuple[int, int]]:
    """Return the pairs that differ by a root mean square below what is stated.

    Means of blocks differ by no more than their pixels do, so that pixels are compared where those of blocks are near.
    """
    found, of_images = [], of_blocks(images)
    for first in range(0, len(others), PART):
        of_others = of_blocks(others[first : first + PART])
        squares = of_images.square().sum(1)[:, None] + of_others.square().sum(1) - 2 * of_images @ of_others.T
        # Products in float32 are told apart by a few units.
        likely = (squares < 1.01 * STATED**2 * of_images.shape[1] + 16).nonzero().tolist()
        found += [(one, first + other) for one, other in likely if rms(images[one], others[first + other]) < STATED]
    return found


def of_blocks(images: Tensor) -> Tensor:
    """Return the means of blocks of four by four pixels."""
    return torch.nn.functional.avg_pool2d(images.unflatten(1, (3, 32, 32)), 4).flatten(1)


def rms(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt())


def test_every_near_pair_is_found() -> None:
    images = torch.randint(256, (40, 1), generator=torch.Generator().manual_seed(0)).expand(40, 3072).float()
    others = images + 2.9 * torch.randn(40, 3072, generator=torch.Generator().manual_seed(1))
    pairs = [(i, j) for i in range(40) for j in range(40) if rms(images[i], others[j]) < STATED]
    assert len(pairs) >= 40
    assert near(images, others) == pairs


@pytest.mark.slow
def test_no_validation_or_test_image_is_nearly_one_of_another_split_or_of_pretraining() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        splits = [list(parts) for parts in zip(*pool.map(drawn, datasets.TASKS), strict=True)]
        train, validation, test = (torch.from_numpy(np.concatenate(parts)).float() for parts in splits)
        assert len(train) >= 30_720
        judged = torch.cat([validation, test])
        assert near(validation, test) == []
        assert near(judged, train) == []
        for chunk in pool.map(pretrained_on, range(pretraining.WORLD_CHUNKS)):
            assert near(judged, torch.from_numpy(chunk).float()) == []
