# SPDX-License-Identifier: MIT
"""Splits follow the rule of the paper's code, and manifests tell whether two machines have the same ones."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from compendium.worlds.clip import splits
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Pictures
from compendium.worlds.clip.registry import tasks
from tsvlib.errors import InputError


@pytest.mark.parametrize("name", ["Cars", "DTD", "EuroSAT", "MNIST", "Flowers102"])
def test_training_and_validation_share_the_pool(name: str) -> None:
    task = tasks()[name]
    train, validation = splits.shared_out(task)
    assert len(validation) == task.validation
    assert torch.cat([train, validation]).sort().values.tolist() == list(range(task.pool))


def test_the_rule_is_that_of_random_split() -> None:
    task = tasks()["Cars"]
    generator = torch.Generator().manual_seed(0)
    lengths = [task.pool - task.validation, task.validation]
    train, validation = torch.utils.data.random_split(range(task.pool), lengths, generator)  # type: ignore[arg-type]
    assert [found.tolist() for found in splits.shared_out(task)] == [list(train.indices), list(validation.indices)]


def test_eurosat_validates_on_a_part_of_its_own() -> None:
    train, validation = splits.shared_out(tasks()["EuroSAT"])
    assert train.tolist() == list(range(21600))
    assert validation.tolist() == list(range(21600, 24300))


def test_the_test_of_eurosat_can_be_its_training_images() -> None:
    task = tasks()["EuroSAT"]
    part, found = splits.chosen(task, "test", Options())
    assert (part, len(found)) == ("test", 2700)
    part, found = splits.chosen(task, "test", Options(eurosat_test="21600"))
    assert (part, found.tolist()) == ("pool", list(range(21600)))
    other, found = splits.chosen(tasks()["Cars"], "test", Options(eurosat_test="21600"))
    assert (other, found.tolist()) == ("test", list(range(8041)))
    for split, count in (("train", 21600), ("validation", 2700)):
        part, found = splits.chosen(task, split, Options(eurosat_test="21600"))  # type: ignore[arg-type]
        assert (part, len(found)) == ("pool", count)


def pictures(names: str, labels: list[int]) -> Pictures:
    return Pictures(torch.tensor(labels), list(names), lambda index: Image.new("RGB", (1, 1)))


HERE = pictures("abcd", [0, 1, 0, 1])


def known(found: Pictures, which: list[int]) -> splits.Manifest:
    return {"Cars": {"test": splits.manifest(found, torch.tensor(which))}}


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    both = {**known(HERE, [0, 1]), "DTD": {"train": splits.manifest(HERE, torch.tensor([3])), "test": {}}}
    del both["DTD"]["test"]  # type: ignore[attr-defined]
    splits.write(tmp_path / "manifest.toml", both)
    assert splits.read(tmp_path / "manifest.toml") == both
    assert splits.compare(splits.read(tmp_path / "manifest.toml"), both) == []


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (known(HERE, [0, 1, 2]), "Cars, test: 2 images here, 3 there."),
        (known(HERE, [1, 0]), "Cars, test: as many images, but not the same ones, in another order or by other names."),
        (known(pictures("abcd", [0, 0, 0, 0]), [0, 1]), "Cars, test: the same images with other labels."),
        ({}, "Cars, test: known only here."),
    ],
)
def test_differences_are_sentences(there: splits.Manifest, told: str) -> None:
    assert splits.compare(known(HERE, [0, 1]), there) == [told]


def test_what_only_others_know_is_told() -> None:
    assert splits.compare({}, known(HERE, [0])) == ["Cars, test: known only there."]


@pytest.mark.parametrize("text", ["nothing", "a = 1\n", "[Cars.test]\nimages = 1\n", "[Cars]\ntest = 1\n"])
def test_a_file_that_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.toml").write_text(text)
    with pytest.raises(InputError, match="no manifest of splits"):
        splits.read(tmp_path / "manifest.toml")


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file is missing"):
        splits.read(tmp_path / "manifest.toml")
