# SPDX-License-Identifier: MIT
"""The twenty data sets as they lie on disk: in the layouts of torchvision, and in the folders of the paper's authors.

Each is looked for below the folder of all images where torchvision puts it with that folder as its root, or in a folder
with the task's name in there, as the paper's code has it. ``folders``, ``lists`` and ``arrays`` know the layouts, which
are of the two kinds in ``kinds``. They list images themselves, because torchvision's classes name no files and digest
whole archives first; tests hold their order and labels against torchvision's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compendium.worlds.clip.local import arrays, downloads, folders, lists
from compendium.worlds.clip.local.kinds import REMEDY, Layout, Tally
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Part, Pictures
from compendium.worlds.clip.registry import Task
from compendium.worlds.findings import Finding
from tsvlib.errors import InputError

LAYOUTS: dict[str, tuple[Layout, ...]] = {**folders.LAYOUTS, **lists.LAYOUTS, **arrays.LAYOUTS}


def open_part(task: Task, images: Path, part: Part, options: Options) -> Pictures:
    """Return a part of a data set in the order in which the paper's code enumerates it; nothing is fetched.

    Labels are in the order of the task's classes. The pool of EuroSAT is its training images and then its validation;
    where these are not in folders of their own, they are shared out by a rule of ours (see ``folders``).
    ``options.emnist_upright`` turns EMNIST; all else, such as letters or digits, is up to the task. Numbers of images
    are not checked, which :func:`look` does.

    Raises:
        InputError: the data set is missing or damaged, or has other classes; an image is, when that is asked for.
    """
    found = _found(task, images)
    if not found:
        raise InputError(_missing(task, images))
    layout, root = found[0]
    with _telling(task, root / layout.place):
        return layout.pictures(task, root, part, options)


def look(task: Task, images: Path) -> Finding:
    """Return whether a data set is here with as many images as it should have; no image is decoded."""
    found = _found(task, images)
    if not found:
        return Finding("missing", _missing(task, images), downloads.WAYS[task.name].bytes)
    layout, root = found[0]
    place = root / layout.place
    try:
        with _telling(task, place):
            pool, test = layout.tally(task, root, "pool"), layout.tally(task, root, "test")
    except InputError as error:
        return Finding("wrong", str(error))
    held = pool.bytes + test.bytes
    for name, tally, wanted in (("pool", pool, task.pool), ("test", test, task.test)):
        if tally.images != wanted or tally.lacking:
            return Finding("wrong", _differing(place, name, tally, wanted), held)
    told = f"{place}: {task.pool:,} and {task.test:,} images of {task.title}"
    others = [str(other_root / other.place) for other, other_root in found[1:]]
    return Finding("present", f"{told}{f'; {others[0]} is not used' if others else ''}.", held)


def download(task: Task, images: Path) -> None:
    """Fetch a data set that is not here, after saying how much that is and where it goes.

    Raises:
        InputError: it is here and not as it should be, it is to be had by hand only, or it does not come whole.
    """
    before = look(task, images)
    if before.state == "missing":
        downloads.fetch(task, images)
        before = look(task, images)
    if before.state != "present":
        raise InputError(before.told)


def _found(task: Task, images: Path) -> list[tuple[Layout, Path]]:
    """Return the layouts in which a data set is here, the one that is preferred first, and the roots they are below."""
    roots = dict.fromkeys((images, images / task.name, images / task.name.lower()))
    return [(layout, root) for layout in LAYOUTS[task.name] for root in roots if (root / layout.place).exists()]


def _missing(task: Task, images: Path) -> str:
    places = " or ".join(layout.place for layout in LAYOUTS[task.name])
    return f"{images}: no {task.title} is here, as {places}; {downloads.hint(task)}."


def _differing(place: Path, name: str, tally: Tally, wanted: int) -> str:
    lacking = f", as {tally.lacking} is missing" if tally.lacking else ""
    return f"{place}: {tally.images:,} images in the {name} instead of {wanted:,}{lacking}; {REMEDY}."


@contextmanager
def _telling(task: Task, place: Path) -> Iterator[None]:
    """Turn whatever readers of foreign formats raise on what is damaged into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{place}: {task.title} cannot be read ({type(error).__name__}), perhaps because it is damaged; {REMEDY}."
        ) from error
