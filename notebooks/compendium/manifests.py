# SPDX-License-Identifier: MIT
"""Lists of finished experts with the sha256 of their files; ``make`` takes a list as a sign that all of it is there."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tsvlib import files
from tsvlib.errors import InputError


def read(manifest: Path) -> dict[str, str]:
    """Return the sha256 of every listed expert's file by its name; InputError when the list is broken."""
    try:
        return dict(json.loads(manifest.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise InputError(f"{manifest}: not a list of experts; delete it and run make again.") from error


def write(manifest: Path, listed: Iterable[Path]) -> None:
    """List the experts in these files; an unchanged list keeps its time: what was made from it is still current."""
    text = json.dumps({file.stem: files.sha256(file) for file in listed}, indent=1, sort_keys=True) + "\n"
    if not manifest.is_file() or manifest.read_text(encoding="utf-8") != text:
        with files.replacing(manifest) as draft:
            draft.write_text(text, encoding="utf-8")


def withdraw(manifests: Iterable[Path], names: set[str]) -> None:
    """Delete every list with one of these experts, which are about to be replaced."""
    for manifest in manifests:
        if not names.isdisjoint(read(manifest)):
            manifest.unlink()


def check(manifests: Iterable[Path], folder: Path, remedy: str) -> None:
    """Compare every listed file in ``folder`` with its sha256; the first missing or changed one is an InputError."""
    listed = {name: digest for manifest in manifests for name, digest in read(manifest).items()}
    expected = {folder / f"{name}.safetensors": digest for name, digest in listed.items()}
    for file in expected:
        if not file.is_file():
            raise InputError(f"{file}: this expert is missing; {remedy}.")
    with ThreadPoolExecutor() as pool:
        for file, digest in zip(expected, pool.map(files.sha256, expected), strict=True):
            if digest != expected[file]:
                raise InputError(f"{file}: this expert's file has changed since it was trained; {remedy}.")
