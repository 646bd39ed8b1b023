# SPDX-License-Identifier: MIT
"""The domain shift of each task: one fixed way in which all its images look unlike what the base has seen.

A gap between zero-shot and expert that comes from the look of a domain, as with MNIST, SVHN or EuroSAT for CLIP,
asks for modest changes in many layers. The strength is one number for all tasks; it is set by zero-shot and expert
accuracies on validation images alone (data/mini/README.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compendium.worlds.mini.datasets.canvas import SIZE, Pixels, to_pixels

STRENGTH = 1.0


@dataclass(frozen=True)
class Shift:
    """Colours mixed by a stochastic matrix, contrast lowered, a pattern added, perhaps inverted."""

    mix: NDArray[np.float32]
    contrast: np.float32
    pattern: NDArray[np.float32]
    inverted: bool

    def __call__(self, images: Pixels) -> Pixels:
        """Apply the shift to images (uint8, n x 32 x 32 x 3)."""
        values = images.astype(np.float32)
        if self.inverted:
            values = 255 - values
        channels = [sum(values[..., c] * self.mix[c, d] for c in range(3)) for d in range(3)]
        mixed = np.stack(channels, axis=-1)
        return to_pixels(128 + (mixed - 128) * self.contrast + self.pattern)


def shift_of(seed: int, strength: float = STRENGTH) -> Shift:
    """Return the shift that belongs to a seed: reproducible, and weaker or stronger by ``strength``."""
    rng = np.random.default_rng(seed)
    share = 0.4 * strength
    mix = (1 - share) * np.eye(3) + share * rng.dirichlet(np.ones(3), 3).T
    contrast = 1 - strength * rng.uniform(0.25, 0.5)
    coarse = rng.normal(0, 20 * strength, (8, 8, 3))
    pattern = coarse.repeat(SIZE // 8, axis=0).repeat(SIZE // 8, axis=1)
    return Shift(mix.astype(np.float32), np.float32(contrast), pattern.astype(np.float32), bool(rng.random() < 0.5))
