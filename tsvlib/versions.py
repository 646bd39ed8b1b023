# SPDX-License-Identifier: MIT
"""Versions of what computes: those that can change a bit of a result, and no others."""

import importlib.metadata
import platform
from collections.abc import Iterable
from contextlib import suppress

COMPUTING = ("numpy", "scipy", "torch")
"""The packages that merge, compress and decompose."""


def of(packages: Iterable[str], device: str = "cpu") -> dict[str, str]:
    """Return the versions of Python and of packages, and of CUDA and cuSOLVER for what is computed on ``cuda``.

    cuSOLVER is told where it was installed as a package, as pip does it.
    """
    found = {"python": platform.python_version()}
    found |= {package: importlib.metadata.version(package) for package in packages}
    return found | (_cuda() if device == "cuda" else {})


def _cuda() -> dict[str, str]:
    # Imported here because figures and printed tables are drawn without torch, whose import takes seconds.
    import torch

    found = {"cuda": str(torch.version.cuda)}
    # Since CUDA 13 the package's name no longer tells the release.
    for package in ("nvidia-cusolver", "nvidia-cusolver-cu12"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found["cusolver"] = importlib.metadata.version(package)
            break
    return found
