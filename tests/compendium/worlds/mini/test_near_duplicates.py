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


def drawn(task: str) -> list[np.ndarray]:
    """Return the pixels of the splits of a task."""
    samples = profiles.load("mini").samples
    return [datasets.load(task, name, getattr(samples, name)).inputs[:].flatten(1).numpy() for name in SPLITS]


def pretrained_on(seed: int) -> np.ndarray:
    """Return the pixels of one chunk of the captioned world."""
    images = [image for image, _, _ in world.captioned(seed, pretraining.CHUNK)]
    return np.stack(images).transpose(0, 3, 1, 2).reshape(len(images), -1)


def least_distance(images: Tensor, others: Tensor) -> float:
    """Return the least root mean square by which an image differs from one of the others."""
    squares = images.square().sum(1)[:, None] + others.square().sum(1) - 2 * images @ others.T
    return float((squares.min().clamp(min=0) / images.shape[1]).sqrt())


@pytest.mark.slow
def test_no_validation_or_test_image_is_nearly_one_of_another_split_or_of_pretraining() -> None:
    nearest = float("inf")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        splits = [list(parts) for parts in zip(*pool.map(drawn, datasets.TASKS), strict=True)]
        train, validation, test = (torch.from_numpy(np.concatenate(parts)).float() for parts in splits)
        assert len(train) >= 30_720
        judged = torch.cat([validation, test])
        nearest = min(least_distance(validation, test), *(least_distance(judged, part) for part in train.split(4096)))
        for chunk in pool.map(pretrained_on, range(pretraining.WORLD_CHUNKS)):
            others = torch.from_numpy(chunk).float().split(4096)
            nearest = min(nearest, *(least_distance(judged, part) for part in others))
    assert nearest >= STATED
