# SPDX-License-Identifier: MIT
"""The data sets as their copies on the hub have them: parquet files or archives of images, one folder for each copy.

Copies hold the same images as the originals, not always in the same order. The rule that keeps a tenth of the pool for
validation goes by that order, so it takes other images there; manifests (see :mod:`splits`) tell the two apart. What a
copy is like, such as names of columns and which files belong to a part, is found out from the files themselves.
"""

import glob
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from compendium import paths, terminal
from compendium.worlds import offline
from compendium.worlds.clip import classnames, copies
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Part, Pictures
from compendium.worlds.clip.registry import Task
from compendium.worlds.findings import Finding
from tsvlib.errors import InputError

if TYPE_CHECKING:
    import datasets

NAMES = "classnames.txt"
"""Where an archive's classes have their names, one a line, in the order of its labels."""


def open_part(task: Task, images: Path, part: Part, options: Options) -> Pictures:
    """Return a part of a task from the copy on this machine; nothing is fetched.

    Labels are in the order of the task's classes: by the names of classes that the copy states, and as they are where
    it states plain numbers. Images are named by split and row. ``options.emnist_upright`` mirrors the images of EMNIST
    at their diagonal, as the copy of letters has them as they were published.

    The copy is unpacked once into the cache of the profile, since parquet files give no quick access to single images.

    Raises:
        InputError: the copy is missing or damaged, its columns are unknown, or its classes are not those of the task.
    """
    place, name = copies.folder(task, images), copies.split_name(task, part)
    table = _loaded(task, place, part)
    size = sum((place / file).stat().st_size for file in copies.files_of(task, part, copies.listed(place)))
    column = copies.column_of(table.column_names, copies.IMAGES, place)
    label = copies.column_of(table.column_names, copies.LABELS, place)
    numbers, names = table.data.column(label).to_numpy(), _names(table.features[label], place)
    labels = classnames.in_order(task, numbers, names, place)
    upright = task.name == "EMNIST" and options.emnist_upright

    def image(index: int) -> Image.Image:
        found = _decoded(table[index][column], f"{place}: image {name}/{index}")
        return found.transpose(Image.Transpose.TRANSPOSE) if upright else found

    return Pictures(labels, [f"{name}/{row}" for row in range(len(table))], image, lambda _: size)


def look(task: Task, images: Path) -> Finding:
    """Return whether the copy of a task lies here as it should, by the numbers of images that its files state."""
    try:
        place = copies.folder(task, images)
    except InputError as error:
        return Finding("missing", str(error))
    files = {part: copies.files_of(task, part, copies.listed(place)) for part in copies.PARTS}
    if not any(files.values()):
        return Finding("missing", f"{place}: no copy of {task.hub} (licence: {task.licence}) is here; fetch it.")
    held = sum((place / file).stat().st_size for part in copies.PARTS for file in files[part])
    try:
        counted = {part: sum(copies.count(place / file) for file in files[part]) for part in copies.PARTS}
    except InputError as error:
        return Finding("wrong", str(error), held)
    published = copies.as_published(task)
    for part in copies.PARTS:
        wanted = published.pool if part == "pool" else published.test
        if counted[part] != wanted:
            name = copies.split_name(task, part)
            told = f"{place}: {counted[part]:,} images in {name!r} instead of {wanted:,}; fetch the copy again."
            return Finding("wrong", told, held)
    return Finding("present", f"{place}: {published.pool:,} and {published.test:,} images of {task.hub}.", held)


def download(task: Task, images: Path) -> None:
    """Fetch the files of a task's pool and test from its copy, after saying how much that is and where it goes.

    What is here is not fetched again, and whatever was interrupted is continued. Where all is here, nothing is asked.

    Raises:
        InputError: the network is forbidden (``offline``), the hub does not answer, the disk is too small, or the copy
            has changed.
    """
    place = copies.folder(task, images)
    if look(task, images).state == "present":
        return
    if switch := offline.switch():
        raise InputError(
            f"{switch} is set, so {task.hub} is not fetched; unset it, or put the files of its splits "
            f"{' and '.join(repr(copies.split_name(task, part)) for part in copies.PARTS)} into {place}."
        )
    from huggingface_hub import HfApi

    assert task.hub
    # The library itself reads this variable only once.
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with _telling(task.hub, place):
        found = api.dataset_info(task.hub, files_metadata=True)
    sizes = _wanted(task, {file.rfilename: file.size or 0 for file in found.siblings or ()})
    _announce(task, place, sizes)
    patterns = [glob.escape(file) for file in sizes]
    with _telling(task.hub, place):
        api.snapshot_download(
            task.hub, repo_type="dataset", revision=found.sha, local_dir=place, allow_patterns=patterns
        )
    if (state := look(task, images)).state != "present":
        raise InputError(state.told)


@contextmanager
def _telling(name: str, place: Path) -> Iterator[None]:
    """Turn whatever the hub's library raises, which depends on its HTTP client, into an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"{name}: the hub did not give its files ({type(error).__name__}); run the command again to continue, or "
            f"put them into {place}."
        ) from error


def _wanted(task: Task, sizes: dict[str, int]) -> dict[str, int]:
    """Return the sizes of those files of a copy that are read; InputError where a part has none."""
    wanted: dict[str, int] = {}
    for part in copies.PARTS:
        found = copies.files_of(task, part, list(sizes))
        if not found:
            raise InputError(
                f"{task.hub}: the hub lists no files of {copies.split_name(task, part)!r} now; use other files."
            )
        wanted |= {file: sizes[file] for file in found}
    return wanted | {file: size for file, size in sizes.items() if file == NAMES}


def _announce(task: Task, place: Path, sizes: dict[str, int]) -> None:
    """Say what is fetched and where it goes; InputError where there is no room for it."""
    total = sum(sizes.values())
    terminal.tell(
        f"Fetching {task.hub}: {len(sizes)} files, {total / 1e6:,.1f} MB, into {place} (licence: {task.licence})."
    )
    near = next(parent for parent in (place, *place.parents) if parent.exists())
    if (free := shutil.disk_usage(near).free) < total:
        raise InputError(
            f"{place}: {total / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; free some space or use "
            "another folder."
        )


def _loaded(task: Task, place: Path, part: Part) -> "datasets.Dataset":
    """Return the rows of a part, images undecoded."""
    import datasets
    import pyarrow

    files = copies.files_of(task, part, copies.listed(place))
    if not files:
        raise InputError(
            f"{place}: no files of {copies.split_name(task, part)!r} are here; fetch {task.hub} or put its files there."
        )
    builder = "webdataset" if files[0].endswith(".tar") else "parquet"
    cache = paths.cache("clip") / "unpacked"
    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(
            builder, data_files={part: [str(place / file) for file in files]}, split=part, cache_dir=str(cache)
        )
    except (datasets.exceptions.DatasetGenerationError, tarfile.TarError, pyarrow.ArrowException, ValueError) as error:
        raise InputError(
            f"{place}: files of {copies.split_name(task, part)!r} are damaged; fetch the copy again."
        ) from error
    image = copies.column_of(table.column_names, copies.IMAGES, place)
    # Decoding is up to the reader, which then can say which image is damaged.
    return table.cast_column(image, datasets.Image(decode=False))


def _names(feature: Any, place: Path) -> list[str] | None:
    """Return the names of a copy's classes in the order of its labels, or None where it has none."""
    if names := getattr(feature, "names", None):
        return [str(name) for name in names]
    file = place / NAMES
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else None


def _decoded(value: Any, where: str) -> Image.Image:
    """Return the image that a row holds as the bytes of a file."""
    content = value["bytes"] if isinstance(value, dict) else value
    if not content:
        raise InputError(f"{where} is not in the file; fetch the copy again.")
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{where} cannot be decoded; fetch the copy again.") from error
