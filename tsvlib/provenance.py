# SPDX-License-Identifier: MIT
"""Where a result comes from: content hashes, versions, device and threads; never times, hosts or users."""

import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from tsvlib import paths
from tsvlib.files import sha256

PACKAGES = ("torch", "open_clip_torch", "numpy", "pandas", "matplotlib")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a number or a figure."""
    found = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **found}


def versions_line() -> str:
    """Return :func:`versions` as one line for the end of a notebook."""
    return " · ".join(f"{name} {version}" for name, version in versions().items())


def environment() -> dict[str, str | int]:
    """Return what the computation ran on: kind of device, number of CPU threads and operating system."""
    # Imported here because tables and figures are drawn without torch, whose import takes seconds.
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"device": device, "threads": torch.get_num_threads(), "system": f"{sys.platform} {platform.machine()}"}


def file_hashes(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its path relative to the output root or the checkout.

    Raises:
        InputError: a file cannot be read.
    """
    return {_name(file): sha256(file) for file in sorted(files)}


def code_digest() -> str:
    """Return one SHA-256 over the names and contents of all modules of ``tsvlib``."""
    digest = hashlib.sha256()
    for module in sorted((paths.ROOT / "tsvlib").rglob("*.py")):
        digest.update(f"{_name(module)}\0{sha256(module)}\0".encode())
    return digest.hexdigest()


def _name(file: Path) -> str:
    file = file.resolve()
    for root in paths.roots():
        if file.is_relative_to(root):
            return file.relative_to(root).as_posix()
    return file.name
