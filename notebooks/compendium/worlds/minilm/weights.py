# SPDX-License-Identifier: MIT
"""Pretrained weights out of installed packages, which ``data/minilm/weights.toml`` names with their SHA-256."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from compendium import paths, profiles, provenance
from compendium.worlds.findings import Finding
from tsvlib import checkpoints, files
from tsvlib.errors import InputError

REGISTRY = profiles.folder("minilm") / "weights.toml"
PREFIX = "model.0.auto_model."
"""What names of tensors begin with in an ONNX file of sentence-transformers."""

LINEAR = re.compile(r"/model/model\.0/auto_model/(encoder/layer\.\d+/.+)/MatMul")
"""The name of the node that multiplies by the matrix of a linear layer, whose own name the export has lost."""


@dataclass(frozen=True)
class Package:
    """A file with the weights of a backbone, the package that it is part of, and its SHA-256."""

    backbone: str
    package: str
    version: str
    file: str
    sha256: str

    def find(self) -> Path | None:
        """Return the file where the package is installed; nothing of the package is run."""
        try:
            file = Path(str(metadata.distribution(self.package).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            return None
        return file if file.is_file() else None


def registered() -> tuple[Package, ...]:
    """Return all that may hold weights, in the order in which it is tried."""
    content = tomllib.loads(provenance.read(REGISTRY).decode())
    return tuple(Package(**row) for row in content["weights"])


def find(backbone: str) -> Path:
    """Return the file with the weights of a backbone.

    Raises:
        InputError: no package that holds it is installed, or what it holds is not what it held when it was pinned.
    """
    wanted = [package for package in registered() if package.backbone == backbone]
    found = [(package, file) for package in wanted if (file := package.find())]
    for package, file in found:
        if files.sha256(file) == package.sha256:
            return file
    repair = f"run `{paths.command('env', 'minilm')}`"
    if found:
        package, file = found[0]
        raise InputError(
            f"{file}: not the weights that {REGISTRY.name} pins (their SHA-256 begins with {package.sha256[:12]}); "
            f"uninstall {package.package}, then {repair}."
        )
    names = " or ".join(package.package for package in wanted)
    raise InputError(f"backbone {backbone}: its weights come with the package {names}, which is missing; {repair}.")


def look(backbone: str) -> Finding:
    """Return whether the weights of a backbone are installed and those that are pinned; takes a pass over the file."""
    try:
        file = find(backbone)
    except InputError as error:
        installed = any(package.find() for package in registered() if package.backbone == backbone)
        return Finding("wrong" if installed else "missing", str(error))
    return Finding("present", "from an installed package, with the SHA-256 that is pinned", file.stat().st_size)


def load(backbone: str) -> dict[str, Tensor]:
    """Return the pretrained tensors of a backbone by the names of the hub; errors as in :func:`find`."""
    file = find(backbone)
    if file.suffix == ".onnx":
        return dict(_exported(file))
    published = checkpoints.open_checkpoint(file)
    return {key: published.read(key) for key in published.layout}


def _exported(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an ONNX file; it keeps the matrices of linear layers transposed."""
    import onnx

    graph = onnx.load(file).graph
    held = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
    for name, tensor in held.items():
        if name.startswith(PREFIX):
            yield name.removeprefix(PREFIX), tensor
    for node in graph.node:
        if linear := LINEAR.fullmatch(node.name):
            inputs = [held[name] for name in node.input if name in held]
            for matrix in inputs:
                yield f"{linear[1].replace('/', '.')}.weight", matrix.T.contiguous()
