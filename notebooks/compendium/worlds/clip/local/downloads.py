# SPDX-License-Identifier: MIT
"""Where the twenty data sets are to be had: through torchvision, where their addresses live, or by hand, and how."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compendium import terminal
from compendium.worlds import offline
from compendium.worlds.clip.registry import Task
from compendium.worlds.findings import size
from tsvlib.errors import InputError

BOTH: tuple[Mapping[str, Any], ...] = ({"split": "train"}, {"split": "test"})
"""What torchvision is asked where it fetches each part by itself."""

ROOM = 2.2
"""How much room there must be, by the size of the download: archives and what is in them lie side by side."""


@dataclass(frozen=True)
class Way:
    """How many bytes a data set has to download, about, and what torchvision is asked for, or what to do by hand."""

    bytes: int
    asked: Sequence[Mapping[str, Any]] = ()
    by_hand: str = ""


WAYS = {
    "Cars": Way(
        1_960_000_000,
        by_hand="its official address is gone, so take its copy from the hub, or a copy of the original, which several "
        "people keep on Kaggle, as stanford_cars with devkit/cars_train_annos.mat, devkit/cars_meta.mat, "
        "cars_test_annos_withlabels.mat, cars_train and cars_test",
    ),
    "DTD": Way(625_000_000, ({},)),
    "EuroSAT": Way(94_000_000, ({},)),
    "GTSRB": Way(277_000_000, BOTH),
    "MNIST": Way(11_600_000, ({},)),
    "RESISC45": Way(430_000_000, by_hand="unpack NWPU-RESISC45.rar into resisc45 and put resisc45-train.txt and "
                    "resisc45-test.txt beside it, which are the split of torchgeo"),
    "SVHN": Way(246_000_000, BOTH),
    "SUN397": Way(
        39_000_000_000,
        by_hand="its official address does not answer any more, so take its copy from the hub, or unpack SUN397.tar.gz "
        "and put Training_01.txt and Testing_01.txt of Partitions.zip into SUN397",
    ),
    "STL10": Way(2_640_000_000, ({},)),
    "OxfordIIITPet": Way(811_000_000, ({},)),
    "Flowers102": Way(345_000_000, ({},)),
    "CIFAR100": Way(169_000_000, ({},)),
    "PCAM": Way(7_300_000_000, by_hand="unpack the four files camelyonpatch_level_2_split_{train,test}_{x,y}.h5.gz, "
                "which are on Zenodo, into pcam"),
    "FER2013": Way(97_000_000, by_hand="put fer2013.csv or icml_face_data.csv of Kaggle's challenge in facial "
                   "expression recognition, which needs an account, into fer2013"),
    "CIFAR10": Way(170_000_000, ({},)),
    "Food101": Way(5_000_000_000, ({},)),
    "FashionMNIST": Way(30_900_000, ({},)),
    "RenderedSST2": Way(150_000_000, ({},)),
    "EMNIST": Way(562_000_000, ({"split": "digits"},)),
    "KMNIST": Way(21_000_000, ({},)),
}  # fmt: skip
"""Ways by data set. Sizes are rounded; that of Rendered SST-2 is an estimate."""


def hint(task: Task) -> str:
    """Return what to do to have a data set, as a part of a sentence."""
    way = WAYS[task.name]
    facts = f"about {size(way.bytes)} to download, licence: {task.licence}"
    return f"{way.by_hand or 'fetch it, or put it there'} ({facts})"


def fetch(task: Task, images: Path) -> None:
    """Have torchvision fetch a data set, after saying how much that is and where it goes; its archives are not kept.

    It comes into a folder of its own and moves to its place when all of it is there.

    Raises:
        InputError: it is to be had by hand only, the network is forbidden (``offline``), the disk is too small, its
            address does not answer, or something is in its place.
    """
    way = WAYS[task.name]
    if not way.asked:
        raise InputError(f"{task.title} cannot be fetched into {images}: {hint(task)}.")
    if switch := offline.switch():
        raise InputError(f"{switch} is set, so {task.title} is not fetched; unset it or put it into {images}.")
    terminal.tell(
        f"Fetching {task.title}: about {size(way.bytes)}, through torchvision, into {images} (licence: {task.licence})."
    )
    draft = images / f".{task.name}.part"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _check_room(images, way)
        _ask(task, way, draft)
        _settle(draft, images)
    except OSError as error:
        raise InputError(f"{images}: {task.title} cannot be written ({error}); see to that and try again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_room(images: Path, way: Way) -> None:
    needed, free = ROOM * way.bytes, shutil.disk_usage(images).free
    if free < needed:
        raise InputError(
            f"{images}: {size(int(needed))} are needed and {size(free)} are free; free some space or use another one."
        )


def _ask(task: Task, way: Way, draft: Path) -> None:
    from torchvision import datasets  # type: ignore[import-untyped]

    try:
        for asked in way.asked:
            getattr(datasets, task.name)(draft, download=True, **asked)
    except Exception as error:  # by the kind of address, and of damage
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{task.title} did not come ({reason.rstrip('.')}); try again later, or put it into {draft.parent} by hand."
        ) from error


def _settle(draft: Path, images: Path) -> None:
    """Move what came to its place, without the archives it came in."""
    for archive in [file for file in draft.rglob("*") if file.name.endswith((".gz", ".tgz", ".zip"))]:
        archive.unlink()
    for came in draft.iterdir():
        if (images / came.name).exists():
            raise InputError(f"{images / came.name}: this is in the way of what was fetched; move it away.")
    for came in list(draft.iterdir()):
        came.replace(images / came.name)
