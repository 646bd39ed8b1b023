# SPDX-License-Identifier: MIT
"""Checkpoints from the hub: announced with their size, resumed after a break, compared with what the hub states."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from compendium import terminal
from compendium.worlds import offline
from compendium.worlds.clip.sources import openclip
from compendium.worlds.clip.sources.looking import megabytes
from compendium.worlds.clip.sources.protocol import Offer, Source
from tsvlib import files
from tsvlib.errors import InputError


class Stated(NamedTuple):
    """What the hub says of a file: its repository at one commit, its name and size there, its SHA-256 where known."""

    repository: str
    commit: str
    name: str
    size: int
    sha256: str | None


def fetch(source: Source, folder: Path, backbone: str, task: str | None) -> Path:
    """Return the file of a checkpoint (None: of the base), after downloading it where it is missing.

    Raises:
        InputError: the source is not on the hub, the hub cannot be reached or must not be (``offline``), the
            disk is too small, or what came is not what was announced.
    """
    file = source.files(folder, backbone, task)
    if file.is_file():
        return file
    offer, by_hand = source.offer(folder, backbone, task), source.by_hand(folder, backbone, task)
    if offer is None:
        raise InputError(f"{file}: the file is missing, and {source.name} is not on the hub; {by_hand}.")
    return _fetched(file, offer, by_hand)


def fetch_openai(folder: Path, backbone: str) -> Path:
    """Return the file of OpenAI's whole CLIP, whose text tower makes heads, after downloading it where it is missing.

    Raises:
        InputError: as above.
    """
    file = openclip.openai_file(folder, backbone)
    if file.is_file():
        return file
    return _fetched(file, openclip.openai_offer(folder, backbone), openclip.openai_by_hand(folder, backbone))


def _fetched(file: Path, offer: Offer, by_hand: str) -> Path:
    if switch := offline.switch():
        raise InputError(f"{file}: the file is missing, and {switch} is set; unset that, or {by_hand}.")
    stated, target = _stated(offer, by_hand)
    _download(stated, target)
    return target


def _stated(offer: Offer, by_hand: str) -> tuple[Stated, Path]:
    """Ask the hub for the first file of an offer that it has."""
    from huggingface_hub import HfApi

    with _telling(f"{offer.repository} on the hub", f"try again later, or {by_hand}"):
        info = HfApi(endpoint=_endpoint()).model_info(offer.repository, files_metadata=True)
    held = {sibling.rfilename.casefold(): sibling for sibling in info.siblings or []}
    for name, target in offer.names.items():
        if (found := held.get(name.casefold())) and found.size is not None:
            sha256 = found.lfs.sha256 if found.lfs else None
            return Stated(offer.repository, info.sha or "main", found.rfilename, found.size, sha256), target
    names = " nor ".join(offer.names)
    raise InputError(f"{offer.repository} on the hub: there is no {names}; {by_hand}.")


def _download(stated: Stated, target: Path) -> None:
    """Fill a partial file beside the target, going on where an earlier run broke off, and put it in its place."""
    files.destination(target)
    # Named after the content, so that two versions of a file do not mix.
    partial = target.with_name(f".{target.name}.{(stated.sha256 or stated.commit)[:12]}.partial")
    with files.replacing(target) as temporary:
        with _claimed(partial) as file:
            _announce(stated, target, file.tell())
            _append(stated, file)
        _check(stated, partial)
        os.replace(partial, temporary)


@contextmanager
def _claimed(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial file at its end, for this process alone."""
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{partial}: another process is downloading that file; wait for it.") from error
        yield file


def _announce(stated: Stated, target: Path, there: int) -> None:
    begun = f", of which {megabytes(there)} are there already" if there else ""
    terminal.tell(f"{stated.repository}: downloading {stated.name} ({megabytes(stated.size)}{begun}) to {target}")
    free = shutil.disk_usage(target.parent).free
    if free < stated.size - there:
        needed = megabytes(stated.size - there)
        raise InputError(
            f"{target}: {needed} are needed and {megabytes(free)} are free; make room or choose another folder."
        )


def _append(stated: Stated, file: BinaryIO) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # re-exported without saying so

    url = hf_hub_url(stated.repository, stated.name, revision=stated.commit, endpoint=_endpoint())
    there = file.tell()
    if there > stated.size:
        file.truncate(there := 0)
    with _telling(f"{stated.repository} on the hub, {stated.name}", "run the command again, which goes on from there"):
        # Goes on by itself after a broken connection, too.
        http_get(url, file, resume_size=there, headers=build_hf_headers(), expected_size=stated.size)


def _check(stated: Stated, partial: Path) -> None:
    if partial.stat().st_size == stated.size and stated.sha256 in (None, files.sha256(partial)):
        return
    partial.unlink()
    raise InputError(
        f"{stated.repository} on the hub, {stated.name}: what came is not what the hub states "
        f"({megabytes(stated.size)}, SHA-256 {(stated.sha256 or 'unknown')[:12]}); run the command again."
    )


@contextmanager
def _telling(place: str, remedy: str) -> Iterator[None]:
    """Turn what goes wrong on the way to the hub into a sentence."""
    try:
        yield
    except Exception as error:  # the hub's library passes on those of whichever library speaks HTTP for it
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{place}: the download failed ({reason}); {remedy}.") from error


def _endpoint() -> str | None:
    """Return another address of the hub, as its own library would read it at its import."""
    return os.environ.get("HF_ENDPOINT") or None
