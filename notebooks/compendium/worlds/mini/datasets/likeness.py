# SPDX-License-Identifier: MIT
"""When two pieces of photographs look alike, or one shows nothing: what keeps near duplicates out of other pools."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

FLAT = 6.0
NEAR = 8.0
"""Root mean squares of 0-255 pixels: looks that vary less are flat, two that differ less are near."""

_GAINS = (0.8, 1.0, 1.25)


def looks(images: "list[NDArray[Any]]") -> Float[np.ndarray, "looks rows columns channels"]:
    """Return several looks at one piece and their mirror images as float32."""
    seen = np.stack(images).astype(np.float32)
    return np.concatenate([seen, seen[:, :, ::-1]])


def is_flat(piece: Float[np.ndarray, "looks rows columns channels"]) -> bool:
    """Tell whether one of the looks at a piece hardly varies in any channel."""
    return bool(piece.std(axis=(1, 2)).max(axis=-1).min() < FLAT)


def near(
    pieces: "list[Float[np.ndarray, 'looks rows columns channels']]",
) -> Bool[np.ndarray, "pieces pieces"]:
    """Tell of which pieces some looks are near each other, in equal or somewhat different light.

    >>> one, other = looks([np.full((4, 4, 3), 90.0)]), looks([np.full((4, 4, 3), 140.0)])
    >>> near([one, other, one]).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    seen = np.stack(pieces)
    flat = seen.reshape(seen.shape[0] * seen.shape[1], -1)
    squares, products = (flat * flat).sum(1), flat @ flat.T
    least = np.min([g * g * squares[:, None] + squares[None] - 2 * g * products for g in _GAINS], axis=0)
    by_piece = least.reshape(len(pieces), seen.shape[1], len(pieces), seen.shape[1]).min(axis=(1, 3))
    found: NDArray[np.bool_] = by_piece < NEAR * NEAR * flat.shape[1]
    return found | found.T
