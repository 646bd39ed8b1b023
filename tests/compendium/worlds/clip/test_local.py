# SPDX-License-Identifier: MIT
"""The twenty data sets are read from their real layouts, in the order and with the labels that torchvision gives."""

import dataclasses
import gzip
import hashlib
import http.server
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from compendium.worlds import offline
from compendium.worlds.clip import local
from compendium.worlds.clip.local import batches, downloads
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Part, Pictures
from compendium.worlds.clip.registry import Task, tasks
from compendium.worlds.clip.splits import shared_out
from compendium.worlds.findings import size
from tsvlib.errors import InputError

from . import real_layouts

READABLE = [name for name in tasks() if name != "PCAM"]


def task_of(name: str, classes: int = 3) -> Task:
    return real_layouts.small(tasks()[name], classes)


def contents(pictures: Pictures) -> list[tuple[int, bytes]]:
    return [(int(label), pictures.image(index).tobytes()) for index, label in enumerate(pictures.labels)]


def both(task: Task, root: Path) -> tuple[Pictures, Pictures]:
    return local.open_part(task, root, "pool", Options()), local.open_part(task, root, "test", Options())


def test_every_task_is_known_with_a_way_to_get_it() -> None:
    assert local.LAYOUTS.keys() == downloads.WAYS.keys() == tasks().keys()


def test_all_lie_below_one_folder(tmp_path: Path) -> None:
    written = real_layouts.write_all(tmp_path)
    assert len(written) >= 19
    for task in written.values():
        finding = local.look(task, tmp_path)
        assert finding.state == "present", finding.told
        assert finding.bytes is not None
        assert finding.bytes > 0
        for pictures, count in zip(both(task, tmp_path), (task.pool, task.test), strict=True):
            assert len(pictures.labels) == len(pictures.names) == len(set(pictures.names)) == count
            assert np.bincount(pictures.labels, minlength=len(task.classes)).tolist() == [
                count // len(task.classes)
            ] * len(task.classes)
            assert pictures.image(count - 1).mode == "RGB"
        assert len({content for part in both(task, tmp_path) for content in contents(part)}) == task.pool + task.test


def image_folders(pool: str, test: str) -> Callable[[Path, Part], object]:
    return lambda root, part: datasets.ImageFolder(root / (pool if part == "pool" else test))


def by_split(name: str, pool: str = "train") -> Callable[[Path, Part], object]:
    return lambda root, part: getattr(datasets, name)(root, split=pool if part == "pool" else "test")


def by_flag(name: str, **options: str) -> Callable[[Path, Part], object]:
    return lambda root, part: getattr(datasets, name)(root, train=part == "pool", **options)


THEIRS = {
    "Cars": by_split("StanfordCars"),
    "DTD": image_folders("dtd/train", "dtd/val"),
    "SUN397": image_folders("sun397/train", "sun397/val"),
    "GTSRB": by_split("GTSRB"),
    "MNIST": by_flag("MNIST"),
    "SVHN": by_split("SVHN"),
    "STL10": by_split("STL10"),
    "OxfordIIITPet": by_split("OxfordIIITPet", "trainval"),
    "Flowers102": by_split("Flowers102"),
    "FER2013": by_split("FER2013"),
    "Food101": by_split("Food101"),
    "FashionMNIST": by_flag("FashionMNIST"),
    "RenderedSST2": by_split("RenderedSST2"),
    "EMNIST": by_flag("EMNIST", split="digits"),
    "KMNIST": by_flag("KMNIST"),
}


@pytest.fixture
def _undigested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision read data sets whose files are not those whose digests it knows."""
    lists = {part: [name, name, None] for part, name in (("train", "train_32x32.mat"), ("test", "test_32x32.mat"))}
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    for part in ("train", "test"):
        monkeypatch.setattr(datasets.STL10, f"{part}_list", [[f"{part}_X.bin", None], [f"{part}_y.bin", None]])
    files = {key: (file, None) for key, (file, _) in datasets.Flowers102._file_dict.items()}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
    resources = {key: (file, None) for key, (file, _) in datasets.FER2013._RESOURCES.items()}
    monkeypatch.setattr(datasets.FER2013, "_RESOURCES", resources)


@pytest.mark.usefixtures("_undigested")
@pytest.mark.parametrize("name", THEIRS)
def test_images_and_labels_are_in_the_order_of_torchvision(name: str, tmp_path: Path) -> None:
    task = real_layouts.write(task_of(name, 5), tmp_path, pool=3, test=2)
    for part, ours in zip(("pool", "test"), both(task, tmp_path), strict=True):
        theirs = THEIRS[name](tmp_path, part)
        expected = [(int(label), image.convert("RGB").tobytes()) for image, label in theirs]  # type: ignore[attr-defined]
        assert contents(ours) == expected


def test_eurosat_has_its_validation_at_the_end_of_the_pool(tmp_path: Path) -> None:
    task = real_layouts.write(task_of("EuroSAT"), tmp_path, pool=4, test=2)
    pool, test = both(task, tmp_path)
    folders = [datasets.ImageFolder(tmp_path / "EuroSAT_splits" / part) for part in ("train", "val", "test")]
    train, validation, tested = [[(label, image.tobytes()) for image, label in folder] for folder in folders]
    assert contents(pool) == train + validation
    assert contents(test) == tested
    chosen = shared_out(task)[1].tolist()
    assert [contents(pool)[index] for index in chosen] == validation


def test_eurosat_without_the_papers_split_is_shared_out_by_names(tmp_path: Path) -> None:
    task = real_layouts.write_eurosat_of_torchvision(task_of("EuroSAT"), tmp_path, tens=2)
    assert local.look(task, tmp_path).state == "present"
    pool, test = both(task, tmp_path)
    train, validation = ([pool.names[index] for index in chosen.tolist()] for chosen in shared_out(task))
    assert sorted([*pool.names, *test.names]) == sorted(
        f"{folder}/{folder}_{number}.jpg" for folder in real_layouts.EUROSAT[:3] for number in range(20)
    )
    for names, each in ((train, 16), (validation, 2), (test.names, 2)):
        assert [name.split("/")[0] for name in names] == [f for f in real_layouts.EUROSAT[:3] for _ in range(each)]
    assert min((*train, *validation, *test.names), key=_rank) in test.names
    # More images of one class leave the shares of the others alone.
    shutil.rmtree(tmp_path / "eurosat/2750/Forest")
    real_layouts.write_classes(tmp_path / "eurosat/2750", ["AnnualCrop", "Forest"], 30, "{folder}_{number}.jpg")
    assert [n for n in both(task, tmp_path)[1].names if n.startswith("Her")] == [
        n for n in test.names if n.startswith("Her")
    ]


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@pytest.mark.parametrize(
    ("name", "other"),
    [("DTD", real_layouts.write_dtd_of_torchvision), ("SUN397", real_layouts.write_sun397_of_torchvision)],
)
def test_the_layouts_of_the_paper_and_of_torchvision_hold_the_same(
    name: str, other: Callable[[Task, Path, int, int], Task], tmp_path: Path
) -> None:
    # Among these classes of SUN397 is one whose name is two folders.
    task = task_of(name, 10)
    papers = real_layouts.write(task, tmp_path / "paper", pool=4, test=2)
    theirs = other(task, tmp_path / "torchvision", 4, 2)
    assert local.look(theirs, tmp_path / "torchvision").state == "present"
    for one, two in zip(both(papers, tmp_path / "paper"), both(theirs, tmp_path / "torchvision"), strict=True):
        assert one.names == two.names
        assert contents(one) == contents(two)


def test_the_papers_folders_come_first_and_that_is_told(tmp_path: Path) -> None:
    real_layouts.write_dtd_of_torchvision(task_of("DTD"), tmp_path, 4, 2)
    task = real_layouts.write(task_of("DTD"), tmp_path, pool=1, test=1)
    told = local.look(task, tmp_path).told
    assert str(tmp_path / "dtd/train: 3 and 3 images of DTD") in told
    assert f"{tmp_path / 'dtd/dtd/labels'} is not used" in told
    assert len(both(task, tmp_path)[0].labels) == 3


@pytest.mark.parametrize(
    ("name", "folder"), [("SVHN", "svhn"), ("OxfordIIITPet", "OxfordIIITPet"), ("EMNIST", "EMNIST")]
)
def test_folders_of_their_own_as_in_the_papers_code_are_found(name: str, folder: str, tmp_path: Path) -> None:
    task = real_layouts.write(task_of(name), tmp_path / folder)
    assert local.look(task, tmp_path).state == "present"
    assert contents(both(task, tmp_path)[0]) == contents(both(task, tmp_path / folder)[0])


def test_labels_go_by_the_names_of_classes_not_by_their_order(tmp_path: Path) -> None:
    task = task_of("RenderedSST2")
    turned = dataclasses.replace(task, classes=task.classes[::-1])
    real_layouts.write(task, tmp_path)
    assert both(turned, tmp_path)[0].labels.tolist() == [1, 1, 0, 0]
    (tmp_path / "rendered-sst2/train/neutral").mkdir()
    real_layouts.write_image(tmp_path / "rendered-sst2/train/neutral/1.png", 0, 0)
    with pytest.raises(InputError, match="its class 'neutral' is none of Rendered SST-2"):
        both(task, tmp_path)


def test_the_registry_has_the_classes_in_the_order_of_folders() -> None:
    known = tasks()
    assert list(known["SUN397"].classes) == sorted(known["SUN397"].classes, key=lambda name: name.replace(" ", "_"))
    for name in ("DTD", "RESISC45", "Food101", "CIFAR10", "CIFAR100", "STL10", "RenderedSST2"):
        classes = [label.replace(" ", "_") for label in known[name].classes]
        assert classes == sorted(classes), name
    # Numbers of breeds go by their names, whether they are cats or dogs.
    assert list(known["OxfordIIITPet"].classes) == sorted(known["OxfordIIITPet"].classes, key=str.casefold)
    assert known["FashionMNIST"].classes == tuple(datasets.FashionMNIST.classes)
    assert known["KMNIST"].classes == tuple(datasets.KMNIST.classes)
    # The words of the registry for EuroSAT, whose folders are alphabetical.
    words = dict(known["EuroSAT"].also)
    places = [known["EuroSAT"].classes.index(words[name]) for name in ("annual crop", "highway", "pasture", "sea lake")]
    assert places == [0, 3, 5, 9]


def test_emnist_is_turned_only_when_that_is_asked_for(tmp_path: Path) -> None:
    task = real_layouts.write(task_of("EMNIST"), tmp_path)
    lying = both(task, tmp_path)[0].image(1)
    upright = local.open_part(task, tmp_path, "pool", Options(emnist_upright=True)).image(1)
    assert (np.asarray(upright) == np.asarray(lying).transpose(1, 0, 2)).all()
    assert (np.asarray(lying)[:, :, 0] == real_layouts.pixels(1, 0, (28, 28))).all()


def test_letters_of_emnist_are_numbered_from_one(tmp_path: Path) -> None:
    alphabet = dataclasses.replace(tasks()["EMNIST"], classes=tuple("abcdefghijklmnopqrstuvwxyz"))
    digits = real_layouts.write(task_of("EMNIST"), tmp_path)
    letters = real_layouts.write(alphabet, tmp_path, pool=2, test=1)
    assert both(letters, tmp_path)[0].labels.tolist() == 2 * list(range(26))
    assert both(digits, tmp_path)[0].labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_compressed_files_are_the_same(tmp_path: Path) -> None:
    task = task_of("KMNIST")
    real_layouts.write_mnist(task, tmp_path / "packed", 2, 1, packed=True)
    task = real_layouts.write(task, tmp_path / "plain")
    assert local.look(task, tmp_path / "packed").state == "present"
    assert contents(both(task, tmp_path / "packed")[0]) == contents(both(task, tmp_path / "plain")[0])
    assert both(task, tmp_path / "packed")[0].names == both(task, tmp_path / "plain")[0].names


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_batches_of_cifar_are_one_after_the_other(name: str, tmp_path: Path) -> None:
    task = real_layouts.write(task_of(name), tmp_path, pool=5, test=2)
    pool, test = both(task, tmp_path)
    written = [(label, number) for number in range(5) for label in range(3)]
    order = [row for batch in range(5) for row in written[batch::5]] if name == "CIFAR10" else written
    for index, (label, number) in enumerate(order):
        assert (np.asarray(pool.image(index)) == real_layouts.pixels(label, number, (32, 32, 3))).all()
        assert pool.labels[index] == label
    assert test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (np.asarray(test.image(5)) == real_layouts.pixels(2, 6, (32, 32, 3))).all()


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_that_names_anything_but_an_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(pickle.dumps({b"data": Malicious(tmp_path / "trace"), b"fine_labels": [0]}, 2))
    with pytest.raises(InputError, match=r"train: no readable batch of CIFAR"):
        batches.read_batch(tmp_path / "train")
    assert not (tmp_path / "trace").exists()


def test_the_files_of_fer2013_are_those_of_torchvision(tmp_path: Path) -> None:
    task = task_of("FER2013", 7)
    papers = real_layouts.write(task, tmp_path / "one", pool=2, test=3)
    real_layouts.write_fer2013(task, tmp_path / "two", 2, 3, "icml_face_data.csv")
    for one, two in zip(both(papers, tmp_path / "one"), both(papers, tmp_path / "two"), strict=True):
        assert contents(one) == contents(two)
        assert one.names == two.names
    assert len(both(papers, tmp_path / "one")[1].labels) == 7 * 3


@pytest.mark.parametrize(
    ("first", "told"), [("256", "a pixel is not in 0 to 255"), ("x", "cannot be read"), ("", "cannot")]
)
def test_damaged_pixels_of_fer2013_are_told(first: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013").mkdir()
    row = " ".join(["7"] * (48 * 48 - 1))
    (tmp_path / "fer2013/fer2013.csv").write_text(f"emotion,pixels,Usage\n3,{first} {row},Training\n")
    with pytest.raises(InputError, match=told):
        local.open_part(tasks()["FER2013"], tmp_path, "pool", Options())


def test_fer2013_without_labels_of_the_test_is_told(tmp_path: Path) -> None:
    base = tmp_path / "fer2013"
    base.mkdir()
    row = " ".join(["7"] * 48 * 48)
    (base / "train.csv").write_text(f"emotion,pixels\n3,{row}\n")
    (base / "test.csv").write_text(f"pixels\n{row}\n")
    task = dataclasses.replace(tasks()["FER2013"], pool=1, test=1)
    assert local.open_part(task, tmp_path, "pool", Options()).labels.tolist() == [3]
    finding = local.look(task, tmp_path)
    assert finding.state == "wrong"
    assert "test.csv: no column 'emotion' or 'pixels'" in finding.told


def test_pcam_is_read_or_it_is_told_what_that_takes(tmp_path: Path) -> None:
    task = real_layouts.counted(task_of("PCAM"), 2, 1)
    if real_layouts.WITHOUT_HDF5:
        (tmp_path / "pcam").mkdir()
        for part in ("train", "test"):
            for kind in "xy":
                (tmp_path / f"pcam/camelyonpatch_level_2_split_{part}_{kind}.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
        assert "takes the package h5py" in local.look(task, tmp_path).told
        with pytest.raises(InputError, match=r"_train_x\.h5: reading it takes the package h5py"):
            both(task, tmp_path)
        return
    real_layouts.write(task_of("PCAM"), tmp_path)
    assert local.look(task, tmp_path).state == "present"
    pool, test = both(task, tmp_path)
    assert pool.labels.tolist() == [0, 1, 0, 1]
    assert (np.asarray(test.image(1)) == real_layouts.pixels(1, 2, (96, 96, 3))).all()


@pytest.mark.parametrize("name", tasks())
def test_what_is_missing_is_told_with_size_and_licence(name: str, tmp_path: Path) -> None:
    task = tasks()[name]
    finding = local.look(task, tmp_path)
    assert finding.state == "missing"
    assert finding.bytes == downloads.WAYS[name].bytes
    for part in (str(tmp_path), task.title, task.licence, size(finding.bytes), local.LAYOUTS[name][0].place):
        assert part in finding.told
    with pytest.raises(InputError) as error:
        local.open_part(task, tmp_path, "pool", Options())
    assert str(error.value) == finding.told


@pytest.mark.parametrize("name", READABLE)
def test_an_image_more_or_less_is_wrong(name: str, tmp_path: Path) -> None:
    task = real_layouts.write(task_of(name), tmp_path)
    for changed, part, wanted in (
        (dataclasses.replace(task, pool=task.pool + 1), "pool", task.pool + 1),
        (dataclasses.replace(task, test=task.test - 1), "test", task.test - 1),
    ):
        finding = local.look(changed, tmp_path)
        assert finding.state == "wrong"
        there = task.pool if part == "pool" else task.test
        assert f"{there} images in the {part} instead of {wanted}; complete the data set" in finding.told


FILES = {
    "Cars": "stanford_cars/cars_train/00004.jpg",
    "DTD": "dtd/dtd/images/blotchy/blotchy_0001.jpg",
    "RESISC45": "resisc45/NWPU-RESISC45/airport/airport_001.jpg",
    "OxfordIIITPet": "oxford-iiit-pet/images/American_Bulldog_2.jpg",
    "Flowers102": "flowers-102/jpg/image_00005.jpg",
    "Food101": "food-101/images/baklava/1.jpg",
}


@pytest.mark.parametrize("name", FILES)
def test_a_listed_file_that_is_missing_or_empty_is_named(name: str, tmp_path: Path) -> None:
    wrote = real_layouts.write_dtd_of_torchvision if name == "DTD" else real_layouts.write
    task = wrote(task_of(name), tmp_path, 2, 1)
    assert local.look(task, tmp_path).state == "present"
    file = tmp_path / FILES[name]
    pool = both(task, tmp_path)[0]
    index = next(place for place, label in enumerate(pool.names) if label.endswith(file.name))
    for spoil in (partial(file.write_bytes, b""), file.unlink):
        spoil()
        finding = local.look(task, tmp_path)
        assert finding.state == "wrong"
        assert f"5 images in the pool instead of 6, as {FILES[name]} is missing" in finding.told
    with pytest.raises(InputError, match=f"{file.name}: the file is missing; complete the data set"):
        pool.image(index)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Cars", "stanford_cars/devkit/cars_train_annos.mat"),
        ("GTSRB", "gtsrb/GT-final_test.csv"),
        ("MNIST", "MNIST/raw/t10k-labels-idx1-ubyte"),
        ("SVHN", "train_32x32.mat"),
        ("STL10", "stl10_binary/test_X.bin"),
        ("OxfordIIITPet", "oxford-iiit-pet/annotations/test.txt"),
        ("Flowers102", "flowers-102/setid.mat"),
        ("CIFAR10", "cifar-10-batches-py/data_batch_3"),
        ("FER2013", "fer2013/fer2013.csv"),
        ("Food101", "food-101/meta/train.json"),
        ("RESISC45", "resisc45/resisc45-test.txt"),
    ],
)
def test_damaged_and_missing_files_are_told_in_one_sentence(name: str, file: str, tmp_path: Path) -> None:
    task = real_layouts.write(task_of(name), tmp_path)
    whole = (tmp_path / file).read_bytes()
    for content in (whole[: len(whole) // 2 - 1], whole[:3], b"\x00\xff" * 50):
        (tmp_path / file).write_bytes(content)
        finding = local.look(task, tmp_path)
        assert finding.state == "wrong", content[:10]
        assert str(tmp_path) in finding.told
        assert "\n" not in finding.told
    (tmp_path / file).unlink()
    finding = local.look(task, tmp_path)
    assert finding.state == ("missing" if name == "SVHN" else "wrong")
    assert Path(file).name.removesuffix(".csv") in finding.told or name == "SVHN"


def test_cars_without_labels_of_the_test_are_told(tmp_path: Path) -> None:
    task = real_layouts.write(task_of("Cars"), tmp_path)
    rows = np.array([[(1, "00001.jpg"), (1, "00002.jpg")]], dtype=[("bbox_x1", object), ("fname", object)])
    savemat(tmp_path / "stanford_cars/cars_test_annos_withlabels.mat", {"annotations": rows})
    assert "no classes are in there, as in a test without labels" in local.look(task, tmp_path).told


def test_folders_without_classes_are_told(tmp_path: Path) -> None:
    task = real_layouts.write(task_of("EuroSAT"), tmp_path)
    shutil.rmtree(tmp_path / "EuroSAT_splits/val")
    told = f"{tmp_path / 'EuroSAT_splits/val'}: no folders of classes are here; complete the data set"
    assert told in local.look(task, tmp_path).told


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".ppm"])
def test_an_incomplete_image_is_named_when_it_is_decoded(suffix: str, tmp_path: Path) -> None:
    name = {".jpg": "DTD", ".png": "RenderedSST2", ".ppm": "GTSRB"}[suffix]
    task = real_layouts.write(task_of(name), tmp_path)
    file = sorted(tmp_path.rglob(f"*{suffix}"))[0]
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-300])
    parts = both(task, tmp_path)
    pictures, index = next(
        (part, place) for part in parts for place, known in enumerate(part.names) if file.as_posix().endswith(known)
    )
    with pytest.raises(InputError, match=f"{file.name}: the image is incomplete or damaged; complete the data set"):
        pictures.image(index)
    assert pictures.image(index + 1).mode == "RGB"


def test_images_of_other_modes_are_in_rgb_and_of_their_size(tmp_path: Path) -> None:
    task = real_layouts.write(task_of("RenderedSST2"), tmp_path, pool=3)
    for number, mode in enumerate(("L", "P", "RGBA")):
        Image.new(mode, (7 + number, 5)).save(tmp_path / f"rendered-sst2/train/negative/{number:05d}.png")
    pool = both(task, tmp_path)[0]
    assert [(pool.image(index).mode, pool.image(index).size) for index in range(3)] == [
        ("RGB", (7 + number, 5)) for number in range(3)
    ]


class TestDownload:
    @pytest.fixture
    def address(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A folder that a server on this machine serves as the address of MNIST in torchvision."""
        served = tmp_path / "served"
        real_layouts.write_mnist(task_of("MNIST"), tmp_path / "written", 2, 1, packed=True)
        shutil.copytree(tmp_path / "written/MNIST/raw", served)

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Stay silent."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        digests = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in sorted(served.iterdir())]
        monkeypatch.setattr(datasets.MNIST, "resources", digests)
        yield served
        server.shutdown()
        thread.join()
        server.server_close()

    @pytest.fixture
    def task(self) -> Task:
        return real_layouts.counted(task_of("MNIST"), 2, 1)

    @pytest.mark.usefixtures("address")
    def test_size_and_folder_are_told_and_the_data_set_is_there_then(
        self, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        images = tmp_path / "images"
        local.download(task, images)
        told = f"Fetching MNIST: about 12 MB, through torchvision, into {images} (licence: CC-BY-SA-3.0).\n"
        assert capsys.readouterr().err.startswith(told)
        assert local.look(task, images).state == "present"
        assert contents(both(task, images)[0]) == contents(both(task, tmp_path / "written")[0])
        assert [file.name for file in images.iterdir()] == ["MNIST"]
        assert not list(images.rglob("*.gz"))

    def test_what_is_here_is_not_fetched_again(
        self, task: Task, address: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree(address)
        local.download(task, tmp_path / "written")
        assert capsys.readouterr().err == ""

    def test_nothing_is_left_of_what_came_damaged(self, task: Task, address: Path, tmp_path: Path) -> None:
        damaged = address / "t10k-images-idx3-ubyte.gz"
        damaged.write_bytes(gzip.compress(gzip.decompress(damaged.read_bytes())[:-9]))
        with pytest.raises(InputError, match=r"MNIST did not come .*; try again later, or put it into .* by hand"):
            local.download(task, tmp_path / "images")
        assert not list((tmp_path / "images").iterdir())

    @pytest.mark.usefixtures("address")
    def test_what_is_wrong_stays_as_it_is(self, task: Task, tmp_path: Path) -> None:
        (tmp_path / "written/MNIST/raw/t10k-images-idx3-ubyte.gz").unlink()
        before = sorted((tmp_path / "written").rglob("*"))
        with pytest.raises(InputError, match="the file is missing; complete the data set, or move it away"):
            local.download(task, tmp_path / "written")
        assert sorted((tmp_path / "written").rglob("*")) == before

    @pytest.mark.usefixtures("address")
    def test_what_comes_with_another_number_of_images_is_told(self, task: Task, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="3 images in the test instead of 10,000"):
            local.download(dataclasses.replace(task, test=10_000), tmp_path / "images")

    @pytest.mark.usefixtures("address")
    def test_what_is_in_the_way_is_told(self, task: Task, tmp_path: Path) -> None:
        (tmp_path / "images/MNIST").mkdir(parents=True)
        with pytest.raises(InputError, match=r"images/MNIST: this is in the way of what was fetched; move it away\."):
            local.download(task, tmp_path / "images")
        assert [file.name for file in (tmp_path / "images").iterdir()] == ["MNIST"]
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InputError, match="MNIST cannot be written"):
            local.download(task, tmp_path / "file")

    @pytest.mark.usefixtures("address")
    def test_nothing_is_fetched_where_there_is_no_room(
        self, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(downloads.WAYS, "MNIST", downloads.Way(10**18, ({},)))
        with pytest.raises(InputError, match=r"2,200,000,000\.0 GB are needed and .* are free"):
            local.download(task, tmp_path / "images")

    @pytest.mark.usefixtures("address")
    @pytest.mark.parametrize("switch", offline.SWITCHES)
    def test_offline_nothing_is_asked(
        self, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
    ) -> None:
        monkeypatch.setenv(switch, "1")
        with pytest.raises(InputError, match=rf"^{switch} is set, so MNIST is not fetched; unset it or put it"):
            local.download(task, tmp_path / "images")
        assert not (tmp_path / "images").exists()

    @pytest.mark.parametrize("name", ["Cars", "RESISC45", "SUN397", "PCAM", "FER2013"])
    def test_what_is_to_be_had_by_hand_is_told(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=f"{downloads.WAYS[name].by_hand.split(',')[0].split('.')[0]}"):
            local.download(tasks()[name], tmp_path)
        assert not list(tmp_path.iterdir())

    def test_torchvision_knows_all_that_it_is_asked_for(self) -> None:
        assert all(hasattr(datasets, name) for name, way in downloads.WAYS.items() if way.asked)
