# SPDX-License-Identifier: MIT
"""State dicts on disk: read tensor by tensor, written whole or not at all.

``lazy`` opens what others saved, single files, shards and folders, with ``safetensorsfiles`` and ``torchfiles`` for
the two formats; ``choosing`` says which file of a folder is read, ``hub`` knows the folders of a hub's cache.
``writing`` saves safetensors that carry their recipe and a digest of everything in them, ``folders`` puts several
beside a configuration, with ``sidefiles``, and ``verifying`` reads them back, noticing every changed byte. ``layout``
knows what stands in a header.
"""

from tsvlib.checkpoints.folders import folder_writer, shards
from tsvlib.checkpoints.layout import TensorInfo, file_order
from tsvlib.checkpoints.lazy import (
    ADAPTER,
    ADAPTERS,
    Checkpoint,
    combined,
    files_of,
    is_adapter,
    is_named_so,
    located,
    neighbour,
    open_checkpoint,
)
from tsvlib.checkpoints.verifying import REMEDY, digest, load, recipe, verify
from tsvlib.checkpoints.writing import content_digest, finished, for_loaders, save, state_digest, write, writer

__all__ = [
    "ADAPTER",
    "ADAPTERS",
    "REMEDY",
    "Checkpoint",
    "TensorInfo",
    "combined",
    "content_digest",
    "digest",
    "file_order",
    "files_of",
    "finished",
    "folder_writer",
    "for_loaders",
    "is_adapter",
    "is_named_so",
    "load",
    "located",
    "neighbour",
    "open_checkpoint",
    "recipe",
    "save",
    "shards",
    "state_digest",
    "verify",
    "write",
    "writer",
]
