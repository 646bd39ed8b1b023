# SPDX-License-Identifier: MIT
"""Models named ``hf://OWNER/NAME``, fetched from the hub by its own library where that is installed and may do so."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tsvlib import progress
from tsvlib.checkpoints import hub, sidefiles
from tsvlib.errors import InputError

SCHEME = "hf://"
# A path has lost one of the slashes.
_NAMED = re.compile(r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/?")
_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_PREFIXES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Named(NamedTuple):
    """A model on the hub, as it was at a branch, tag or commit."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision != hub.MAIN else "")

    @property
    def command(self) -> str:
        """Return what downloads it, to be typed anywhere."""
        wanted = f" --revision {self.revision}" if self.revision != hub.MAIN else ""
        return f"hf download {self.repository}{wanted} --local-dir {self.repository.rpartition('/')[2]}"


def named(path: Path) -> Named | None:
    """Return the model that a name with the scheme means, and None for any other path; InputError for half a name."""
    if path.parts[:1] != (SCHEME.rstrip("/"),):
        return None
    if found := _NAMED.fullmatch(os.fspath(path)):
        return Named(found["repository"], found["revision"] or hub.MAIN)
    raise InputError(
        f"{path}: this names no model of the hub; write {SCHEME}OWNER/NAME or {SCHEME}OWNER/NAME@REVISION."
    )


def fetched(model: Named, names: Sequence[str], parts: Callable[[Path], Iterable[str]]) -> Path:
    """Return a folder with the files of a model, from the cache of the hub's library or through it.

    ``names`` are those that a folder is read by, the best first; ``parts`` returns the shards that an index names.
    What is to be downloaded is said first. InputError, with the command to type, where it cannot be had.
    """
    try:
        trouble = _forbidden() or _missing()
        if not trouble:
            return _downloaded(model, names, parts)
    except InputError:
        raise
    except Exception as error:  # the hub's library passes on those of whichever library speaks HTTP for it
        trouble = f"the hub does not serve it ({_first_line(error)})"
    place = hub.snapshot(hub.cached(model.repository), model.revision)
    if place is None:
        raise InputError(f"{model}: {trouble}; type `{model.command}` where it does, and name that folder.")
    progress.say(f"{model}: {trouble}; taken from the cache, {place}")
    return place


def _forbidden() -> str:
    switch = next((name for name in _SWITCHES if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), None)
    return f"{switch} is set, and it is not in the cache" if switch else ""


def _missing() -> str:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        return "the package huggingface_hub, which would fetch it, is not installed here"
    return ""


def _downloaded(model: Named, names: Sequence[str], parts: Callable[[Path], Iterable[str]]) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    held = {each.filename: each for each in snapshot_download(model.repository, revision=model.revision, dry_run=True)}
    chosen = next((name for name in names if name in held), None)
    if chosen is None:
        raise InputError(f"{model}: the hub has none of {', '.join(names)} there; name another model.")
    wanted = {chosen, *filter(sidefiles.is_one, held)}
    if chosen.endswith(".index.json"):
        index = hf_hub_download(model.repository, chosen, revision=held[chosen].commit_hash)
        wanted |= set(parts(Path(index)))
    size = sum(held[name].file_size or 0 for name in wanted & held.keys() if held[name].will_download)
    if size:
        progress.say(f"{model}: {_told(size)} to download into {hub.cached(model.repository)}")
    return Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=sorted(wanted)))


def _told(size: int) -> str:
    for factor, unit in _PREFIXES:
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
