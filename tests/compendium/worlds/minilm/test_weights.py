# SPDX-License-Identifier: MIT
"""Weights come from packages, are those that were pinned, or are refused."""

import hashlib
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from compendium import paths, profiles
from compendium.worlds.minilm import weights
from tsvlib import checkpoints
from tsvlib.errors import InputError

FOLDER = profiles.folder("minilm")


def install(site: Path, package: str, file: str, content: bytes) -> None:
    """Put a package of one file where Python looks for packages."""
    about = site / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (site / file).parent.mkdir(parents=True, exist_ok=True)
    (site / file).write_bytes(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, and a registry of two that hold the weights of the backbone ``little``."""
    checkpoints.save(tmp_path / "little.safetensors", {"encoder.weight": torch.ones(2, 2)}, {})
    digest = hashlib.sha256((tmp_path / "little.safetensors").read_bytes()).hexdigest()
    rows = [
        f'[[weights]]\nbackbone = "little"\npackage = "{name}"\nversion = "1.0"\n'
        f'file = "{name}/model.safetensors"\nsha256 = "{digest}"\n'
        for name in ("first-of-two", "second-of-two")
    ]
    (tmp_path / "weights.toml").write_text("\n".join(rows))
    monkeypatch.setattr(weights, "REGISTRY", tmp_path / "weights.toml")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def test_a_missing_package_is_named_with_what_to_type(site: Path) -> None:
    with pytest.raises(InputError, match="the package first-of-two or second-of-two, which is missing; run"):
        weights.find("little")


def test_the_second_package_stands_in_for_the_first(site: Path) -> None:
    content = (site.parent / "little.safetensors").read_bytes()
    install(site, "second-of-two", "second-of-two/model.safetensors", content)
    assert weights.find("little") == site / "second-of-two" / "model.safetensors"
    assert torch.equal(weights.load("little")["encoder.weight"], torch.ones(2, 2))
    install(site, "first-of-two", "first-of-two/model.safetensors", content)
    assert weights.find("little") == site / "first-of-two" / "model.safetensors"


def test_changed_weights_are_refused(site: Path) -> None:
    content = bytearray((site.parent / "little.safetensors").read_bytes())
    content[-1] ^= 1
    install(site, "first-of-two", "first-of-two/model.safetensors", bytes(content))
    with pytest.raises(InputError, match=r"not the weights that weights\.toml pins"):
        weights.load("little")


def test_a_package_without_its_file_is_as_good_as_none(site: Path) -> None:
    install(site, "first-of-two", "first-of-two/other", b"")
    with pytest.raises(InputError, match="which is missing"):
        weights.find("little")


def test_locks_pin_by_hash_what_the_registry_names() -> None:
    pinned: dict[str, set[tuple[str, str]]] = {}
    for lock in sorted((FOLDER / "requirements").glob("*.lock")):
        for line in lock.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                words, _, digest = line.partition(" --hash=sha256:")
                wanted = Requirement(words)
                assert len(digest) == 64
                pinned.setdefault(lock.name, set()).add((wanted.name, str(wanted.specifier)))
    found = [(each.backbone, (each.package, f"=={each.version}")) for each in weights.registered()]
    assert set().union(*pinned.values()) == {place for _, place in found}
    for packages in pinned.values():
        assert {backbone for backbone, place in found if place in packages} == {"minilm-l3", "minilm-l6"}
    extra = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {Requirement(line) for line in extra["optional-dependencies"]["minilm"]}
    assert {(each.name, str(each.specifier)) for each in wanted} == pinned["1.lock"]
