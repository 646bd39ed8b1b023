# SPDX-License-Identifier: MIT
"""What a reader of a data set answers: labels, names and the original images of one part, in a stated order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int64
from PIL import Image
from torch import Tensor

Part = Literal["pool", "test"]
"""What training and validation share, and what is tested on."""


@dataclass(frozen=True)
class Pictures:
    """One part of a data set as it lies on disk; images are decoded one by one when they are asked for.

    Names tell images apart for as long as the data set stays as it is, such as paths of files inside of it.
    """

    labels: Int64[Tensor, " n"]
    names: Sequence[str]
    image: Callable[[int], Image.Image]
    """From the number of an image to the image in RGB, in the size in which it was published."""
    size: Callable[[int], int] | None = None
    """From the number of an image to the bytes of its file, or of all files of the part where these hold many."""
