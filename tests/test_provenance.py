# SPDX-License-Identifier: MIT
import getpass
import hashlib
import json
import platform

from tsvlib import paths, provenance


def test_versions_line_names_what_can_change_a_number():
    line = provenance.versions_line()
    assert all(package in line for package in ("python", "torch", "numpy", "matplotlib"))
    assert "\n" not in line


def test_nothing_tells_who_or_where():
    told = json.dumps([provenance.versions(), provenance.environment()])
    assert platform.node() not in told
    assert f'"{getpass.getuser()}"' not in told


def test_file_hashes_are_of_contents_under_relative_names(output):
    output.mkdir()
    file = output / "a.csv"
    file.write_bytes(b"x")
    outside = output.parent / "b.csv"
    outside.write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    assert provenance.file_hashes([outside, file]) == {"a.csv": digest, "b.csv": digest}
    assert list(provenance.file_hashes([paths.ROOT / "pyproject.toml"])) == ["pyproject.toml"]


def test_code_digest_changes_with_the_code(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    module = tmp_path / "tsvlib" / "a.py"
    module.parent.mkdir()
    digests = set()
    for text in ("x = 1\n", "x = 2\n"):
        module.write_text(text)
        digests.add(provenance.code_digest())
    assert len(digests) == 2
