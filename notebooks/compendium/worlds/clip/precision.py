# SPDX-License-Identifier: MIT
"""In which type a GPU encodes images: half the bits where that changes hardly any prediction, else float32.

The paper evaluated in float32. Half the bits take half the time or less, and nothing can be said in general of what
they change, so that is looked at on the machine itself before they are used.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from compendium.worlds.protocol import Features, Inputs

IMAGES = 512
"""Images on which the two types are compared, or all that there are."""

ONE_IN = 500
"""Of so many images, one may be predicted otherwise."""


def chosen(
    encode: Features,
    inputs: Inputs,
    head: Float[Tensor, "classes embed"],
    device: torch.device,
    together: int,
    half: torch.dtype = torch.float16,
) -> torch.dtype:
    """Return the type to encode in: ``half`` where at most one prediction in ``ONE_IN`` differs from float32's.

    Args:
        encode: turns inputs into features on the CPU, and leaves the type to whoever calls.
        inputs: of which the first ``IMAGES`` are predicted twice.
        head: the frozen classifier of their task.
        device: where they are encoded.
        together: how many inputs it encodes at once.
        half: the type with half the bits.
    """
    images = inputs[: min(IMAGES, len(inputs))]
    parts = torch.split(images, together)
    plain, other = (_classes(encode, parts, head, device, dtype) for dtype in (torch.float32, half))
    return half if ONE_IN * int((plain != other).count_nonzero()) <= len(images) else torch.float32


def computing(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return a context in which a model's products are of that type, and those in float32 have all of its bits."""
    if device.type == "cuda":
        # The patches of images are embedded by a convolution, for which PyTorch would leave out bits by itself.
        torch.backends.cudnn.allow_tf32 = False
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _classes(
    encode: Features,
    parts: Sequence[Tensor],
    head: Float[Tensor, "classes embed"],
    device: torch.device,
    dtype: torch.dtype,
) -> Int64[Tensor, " n"]:
    with torch.inference_mode(), computing(device, dtype):
        features = torch.cat([encode(part).float() for part in parts])
    return (features @ head.T).argmax(1)
