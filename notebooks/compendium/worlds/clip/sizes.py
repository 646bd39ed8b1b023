# SPDX-License-Identifier: MIT
"""How large things are before they are there: encoders, their decompositions, images, and what encoding takes."""

import math
from collections.abc import Sequence

from compendium.profiles import Backbone
from compendium.worlds.clip import layouts
from compendium.worlds.clip.sources import backbones
from compendium.worlds.clip.sources.protocol import Layout
from tsvlib.taskvectors import MatrixRule

CHANNELS = 3


def operations(backbone: str) -> int:
    """Return how many additions and multiplications an image takes on its way through an encoder.

    Counted are the matrices of all blocks, the products of queries, keys and values, and what is made of patches.

    >>> f"{operations('ViT-B-32') / 1e9:.1f}, {operations('ViT-L-14') / 1e9:.0f}"
    '8.8, 162'
    """
    shapes = backbones.encoder(backbone, "open_clip")
    tokens, width = shapes["visual.positional_embedding"]
    inside = {key: shape for key, shape in shapes.items() if layouts.BLOCK.fullmatch(key)}
    matrices = sum(math.prod(shape) for shape in inside.values() if len(shape) == 2)
    attention = sum(key.endswith("in_proj_weight") for key in inside) * tokens**2 * width
    patches = (tokens - 1) * math.prod(shapes["visual.conv1.weight"])
    return 2 * (tokens * matrices + patches) + 4 * attention


def encoder(backbone: str, layout: Layout) -> int:
    """Return how many bytes an image encoder takes in float32."""
    return backbones.size(backbones.encoder(backbone, layout))


def decompositions(chosen: Sequence[Backbone], layout: Layout, n_tasks: int) -> int:
    """Return how many bytes the decompositions of all task matrices take, with all components, in float32."""
    return sum(len(backbone.seeds) * n_tasks * _decomposed(backbone.name, layout) for backbone in chosen)


def image(size: int) -> int:
    """Return how many bytes an image takes that was decoded into so many rows and columns.

    >>> image(224)
    150528
    """
    return CHANNELS * size**2


def _decomposed(backbone: str, layout: Layout) -> int:
    rule, shapes = MatrixRule(), backbones.encoder(backbone, layout)
    matrices = (shape for key, shape in shapes.items() if rule.parts(key, shape))
    return sum(4 * min(rows, columns) * (rows + columns + 1) for rows, columns in matrices)
