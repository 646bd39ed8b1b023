# SPDX-License-Identifier: MIT
"""State dicts on disk: read tensor by tensor, written whole or not at all.

``lazy`` opens what others saved, single files, shards and folders, with ``safetensorsfiles`` and ``torchfiles`` for
the two formats. ``writing`` saves safetensors that carry their recipe and a digest of everything in them, and
``verifying`` reads those back, noticing every changed byte. ``layout`` knows what stands in a header.
"""

from tsvlib.checkpoints.layout import TensorInfo, file_order
from tsvlib.checkpoints.lazy import Checkpoint, neighbour, open_checkpoint
from tsvlib.checkpoints.verifying import REMEDY, digest, load, recipe, verify
from tsvlib.checkpoints.writing import save, state_digest, write

__all__ = [
    "REMEDY",
    "Checkpoint",
    "TensorInfo",
    "digest",
    "file_order",
    "load",
    "neighbour",
    "open_checkpoint",
    "recipe",
    "save",
    "state_digest",
    "verify",
    "write",
]
