# SPDX-License-Identifier: MIT
"""Names and shapes of the tensors in the checkpoints that the paper merges.

An image encoder as saved with its text transformer removed; the rest of the text side is still there and never
trained. Source of the keys: the state dicts of open_clip 2.10.1; of the counts: the sizes of the published files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tsvlib.errors import InputError

Layout = Mapping[str, tuple[int, ...]]
PREFIX = "model."
VISUAL = PREFIX + "visual."


@dataclass(frozen=True)
class Encoder:
    """Sizes of a CLIP model: pixels per side and patch, widths of the two towers, blocks of the visual one."""

    pixels: int
    patch: int
    width: int
    blocks: int
    embedding: int
    text_width: int
    words: int = 49408
    context: int = 77

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by its key, sorted."""
        w, e, t = self.width, self.embedding, self.text_width
        shapes: dict[str, tuple[int, ...]] = {
            "positional_embedding": (self.context, t),
            "text_projection": (t, e),
            "logit_scale": (),
            "token_embedding.weight": (self.words, t),
            "visual.class_embedding": (w,),
            "visual.positional_embedding": ((self.pixels // self.patch) ** 2 + 1, w),
            "visual.proj": (w, e),
            "visual.conv1.weight": (w, 3, self.patch, self.patch),
        } | _norm("ln_final", t)
        for name in ("ln_pre", "ln_post"):
            shapes |= _norm(f"visual.{name}", w)
        for number in range(self.blocks):
            shapes |= _block(f"visual.transformer.resblocks.{number}", w)
        return {PREFIX + key: shapes[key] for key in sorted(shapes)}


ENCODERS = {
    "ViT-B-32": Encoder(pixels=224, patch=32, width=768, blocks=12, embedding=512, text_width=512),
    "ViT-B-16": Encoder(pixels=224, patch=16, width=768, blocks=12, embedding=512, text_width=512),
    "ViT-L-14": Encoder(pixels=224, patch=14, width=1024, blocks=24, embedding=768, text_width=768),
    "tiny": Encoder(pixels=8, patch=2, width=24, blocks=2, embedding=16, text_width=16, words=40, context=9),
    "toy": Encoder(pixels=224, patch=32, width=64, blocks=2, embedding=32, text_width=16),
}
"""``tiny`` and ``toy`` have the keys of the others and serve tests; ``toy`` also sees images and reads words."""

PUBLISHED = {"ViT-B-32": (158, 113_448_705), "ViT-B-16": (158, 111_792_129), "ViT-L-14": (302, 342_562_049)}
"""How many tensors and parameters the published files hold."""


def layout(name: str) -> dict[str, tuple[int, ...]]:
    """Return the layout of a backbone; InputError for an unknown name."""
    if name not in ENCODERS:
        raise InputError(f"there is no layout `{name}`; choose one of {', '.join(ENCODERS)}.")
    found = ENCODERS[name].layout()
    assert name not in PUBLISHED or (len(found), parameters(found)) == PUBLISHED[name]
    return found


def check(name: str, shapes: Layout, where: str) -> None:
    """Raise InputError, which begins with ``where``, unless tensors are those of a backbone by name and shape."""
    expected = layout(name)
    if wrong := sorted(key for key in expected.keys() | shapes.keys() if expected.get(key) != shapes.get(key)):
        published, here = (f"{len(each)} with {parameters(each):,} numbers" for each in (expected, shapes))
        raise InputError(
            f"{where}: `{wrong[0]}` is not as in the published files of {name}, whose tensors are {published}, and not "
            f"{here}; install the packages of requirements.lock."
        )


def visual(shapes: Layout) -> dict[str, tuple[int, ...]]:
    """Return the part of a layout that fine-tuning changes."""
    return {key: shape for key, shape in shapes.items() if key.startswith(VISUAL)}


def matrices(shapes: Layout) -> dict[str, tuple[int, int]]:
    """Return the visual task matrices of a layout."""
    return {key: (shape[0], shape[1]) for key, shape in visual(shapes).items() if len(shape) == 2}


def parameters(shapes: Layout) -> int:
    """Return how many numbers the tensors of a layout hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def block(key: str) -> str:
    """Return the number of the block that a tensor belongs to, or an empty string outside the blocks."""
    after = key.partition(".resblocks.")[2]
    return after.partition(".")[0]


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = _norm(f"{name}.ln_1", width) | _norm(f"{name}.ln_2", width)
    for layer, rows, columns in (
        ("attn.in_proj_", 3 * width, width),
        ("attn.out_proj.", width, width),
        ("mlp.c_fc.", 4 * width, width),
        ("mlp.c_proj.", width, 4 * width),
    ):
        shapes |= {f"{name}.{layer}weight": (rows, columns), f"{name}.{layer}bias": (rows,)}
    return shapes
