# SPDX-License-Identifier: MIT
"""Where a result comes from: what was read, by which notebook, on what; never times, hosts or users.

Whatever reads something that results can depend on notes it here, and a table that is saved names all that was read so
far in the same process, which is one run of one notebook.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from compendium import paths, sourcecode
from tsvlib import versions
from tsvlib.errors import InputError
from tsvlib.files import sha256

STUDIES = (*versions.COMPUTING, "pandas")
"""The packages that can change a number in a result table of any world."""

_READ: dict[str, str] = {}
_NAMED: set[str] = set()
_PACKAGES: set[str] = set()
_DEVICES: set[str] = set()
_STATED: set[str] = set()


def read(file: Path) -> bytes:
    """Return the content of a file and note it as read.

    Raises:
        OSError: the file cannot be read.
        InputError: it has changed since this process read it first.
    """
    content = file.read_bytes()
    note(file, hashlib.sha256(content).hexdigest())
    return content


def note(file: Path, digest: str | None = None) -> None:
    """Note that something was read under the name of ``file``; without a digest, that is the file's SHA-256.

    Raises:
        InputError: the file cannot be read, or it has changed since this process read it first.
    """
    name, digest = _name(file), digest or sha256(file)
    # One step, so that no other thread can come between.
    if _READ.setdefault(name, digest) != digest:
        raise InputError(f"{file}: it has changed since it was read first; run everything again from the beginning.")


def name_code(module: str) -> None:
    """Note that a module computes which no import tells, since a profile names it."""
    _NAMED.add(module)


def name_packages(*packages: str) -> None:
    """Note that the world of a profile computes by packages which can change a number, too."""
    _PACKAGES.update(packages)


def name_device(kind: str) -> None:
    """Note that something was computed on a device of that kind, such as ``cuda``; what nobody names was on the CPU."""
    _DEVICES.add(kind)


def state(sentence: str) -> None:
    """Note what a world says of the versions of its experts and inputs; an empty sentence says nothing."""
    _STATED.update([sentence] if sentence else [])


def record() -> dict[str, object]:
    """Return all that a result table can tell of where it comes from.

    ``inputs`` are the SHA-256 of all that was read so far, by path relative to the output root or the checkout;
    ``notebook`` is the source of the one that runs, ``parameters`` are its parameters now, ``code`` is the digest of
    what it executes, with the modules that profiles ``named``; ``environment`` and ``versions`` are what it runs on.
    ``stated`` is what captions repeat of a world's words on its versions, where there are any.
    What cannot be known is None: ``notebook``, ``parameters`` and ``code`` where no notebook runs, and ``code`` that is
    being edited and not Python.
    """
    source, device = _source(), "cuda" if "cuda" in _DEVICES else "cpu"
    found: dict[str, object] = {
        "code": _code(source) if source else None,
        "environment": _environment(device),
        "inputs": dict(sorted(_READ.items())),
        "named": sorted(_NAMED),
        "notebook": _name(source) if source else None,
        "parameters": _parameters(source) if source else None,
        "versions": versions.of((*STUDIES, *sorted(_PACKAGES)), device),
    }
    return found | ({"stated": " ".join(sorted(_STATED))} if _STATED else {})


def changed(inputs: Mapping[str, str]) -> list[str]:
    """Return the names of inputs of a result that are others now; what is missing in the cache is no change."""
    roots = paths.roots()
    files = {name: next((root / name for root in roots if (root / name).is_file()), None) for name in inputs}
    gone = [name for name, file in files.items() if file is None and not name.startswith("data/cache/")]
    return sorted(gone + [name for name, file in files.items() if file and sha256(file) != inputs[name]])


def versions_line() -> str:
    """Return the versions of what computes and draws as one line for the end of a notebook."""
    found = versions.of((*STUDIES, *sorted(_PACKAGES), "matplotlib"))
    return " · ".join(f"{name} {version}" for name, version in found.items())


def _source() -> Path | None:
    """Return the source of the notebook that runs in this process, which Jupyter and the runner name to its kernel."""
    session = os.environ.get("JPY_SESSION_NAME")
    source = Path(session).with_suffix(".py") if session else None
    return source if source and source.is_file() else None


def _code(source: Path) -> str | None:
    with suppress(SyntaxError):
        return sourcecode.digest(source, _NAMED)
    return None


def _parameters(source: Path) -> dict[str, object] | None:
    variables = vars(sys.modules["__main__"])
    with suppress(SyntaxError, ValueError, KeyError):
        return {name: variables[name] for name in sourcecode.parameters(source)}
    return None


def _environment(device: str) -> dict[str, str | int | None]:
    # Imported here because tables and figures are drawn without torch, whose import takes seconds.
    import torch

    found: dict[str, str | int | None] = {
        "device": device,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "processor": _processor(),
        "system": f"{sys.platform} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }
    return found | ({"accelerator": torch.cuda.get_device_name()} if device == "cuda" else {})


def _processor() -> str | None:
    """Return the processor's model, or None where the system does not tell it."""
    with suppress(OSError, subprocess.CalledProcessError):
        if sys.platform == "darwin":
            return subprocess.check_output(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return None


def _name(file: Path) -> str:
    file = file.resolve()
    for root in paths.roots():
        if file.is_relative_to(root):
            return file.relative_to(root).as_posix()
    return file.name
