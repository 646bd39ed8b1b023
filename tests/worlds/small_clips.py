# SPDX-License-Identifier: MIT
"""Put into a copy of the checkout as `sitecustomize.py`: every process there knows small models and reaches no network.

Python imports that name when it starts. Models described in the folder `small_clips` take the place of the published
ones when open_clip is imported, and a connection that leaves this machine fails.
"""

import ipaddress
import socket
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

DESCRIBED = Path(__file__).resolve().parent / "small_clips"


class Small(SourceFileLoader):
    """Load open_clip's list of models and let it read more of them."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.add_model_config(DESCRIBED)


class Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, *_: object) -> ModuleSpec | None:
        if name != "open_clip.factory" or (spec := PathFinder.find_spec(name, path)) is None or spec.origin is None:
            return None
        spec.loader = Small(name, spec.origin)
        return spec


class Here(socket.socket):
    """A socket that connects to nothing beyond this machine."""

    def connect(self, address: Any) -> None:
        self._check(address)
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        self._check(address)
        return super().connect_ex(address)

    def _check(self, address: Any) -> None:
        if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0]).is_loopback:
            raise RuntimeError(f"this copy must not use the network ({address})")


if DESCRIBED.is_dir():
    sys.meta_path.insert(0, Finder())
    socket.socket = Here  # type: ignore[misc]
