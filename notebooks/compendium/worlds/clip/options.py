# SPDX-License-Identifier: MIT
"""Where the code of the paper, its later versions and others differ about a data set: options, each with a name."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Options:
    """What is meant by a data set whose versions differ; the first value of each is what the paper's numbers rest on.

    ``emnist`` names the split, ``emnist_upright`` turns its images, which are stored on their side. ``fer2013_names``
    are lists in the code of the paper, so its prompts hold brackets; they are ``shifted`` if its experts learnt three
    of the seven faces under the names of others, for which there are signs. ``stl10_templates`` grew after the paper.
    ``eurosat_test`` is the number of test images: those kept apart, or those that trained the expert, too, on which
    merged models were scored in the paper.
    """

    emnist: Literal["digits", "letters"] = "digits"
    emnist_upright: bool = False
    fer2013_names: Literal["lists", "shifted", "words"] = "lists"
    stl10_templates: Literal["two", "eighteen"] = "two"
    eurosat_test: Literal["2700", "21600"] = "2700"
