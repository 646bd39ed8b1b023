# SPDX-License-Identifier: MIT
"""State dicts on disk: read tensor by tensor, written whole or not at all.

``lazy`` opens what others saved, single files, shards and folders, with ``safetensorsfiles`` and ``torchfiles`` for
the two formats; ``choosing`` says which file of a folder is read. ``writing`` saves safetensors that carry their recipe
and a digest of everything in them, and ``verifying`` reads those back, noticing every changed byte. ``layout`` knows
what stands in a header.
"""

from tsvlib.checkpoints.layout import TensorInfo, file_order
from tsvlib.checkpoints.lazy import Checkpoint, neighbour, open_checkpoint
from tsvlib.checkpoints.verifying import REMEDY, digest, load, recipe, verify
from tsvlib.checkpoints.writing import content_digest, save, state_digest, write, writer

__all__ = [
    "REMEDY",
    "Checkpoint",
    "TensorInfo",
    "content_digest",
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
    "writer",
]
