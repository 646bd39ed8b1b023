# SPDX-License-Identifier: MIT
"""What continuous integration says about results that are behind the code, with stand-ins for make and Python."""

import os
import shutil
import subprocess

import pytest

from compendium import paths

CHECK = "-m compendium check-tables data/results/mini"
BEHIND = "merge: notebooks/13_merge.py or a module that it imports"
STAND_INS = {
    "bin/chromium": "exit 0",
    "bin/ip": "exit 0",
    "bin/make": 'echo "make $*"; grep -qsx "make $*" failing && exit 2 || exit 0',
    ".venv/bin/python": f'echo "{BEHIND}"; [ "$*" = "{CHECK}" ] && exit 1 || exit 9',
}


@pytest.fixture
def continuous_integration(tmp_path):
    """Return a function that commits with a message and returns the exit status and the lines of ``.ci/run``."""
    for name, script in STAND_INS.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{script}\n")
        file.chmod(0o755)
    shutil.copytree(paths.ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "data" / "results" / "mini").mkdir(parents=True)
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    surroundings["PATH"] = f"{tmp_path / 'bin'}:{surroundings['PATH']}"

    def call(*command):
        return subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)

    def integrate(message):
        call("git", "init", "--quiet")
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        assert call("git", *author, "commit", "--quiet", "--allow-empty", f"--message={message}").returncode == 0
        done = call(".ci/run")
        return done.returncode, done.stdout.splitlines()

    return integrate


def test_results_behind_the_code_are_told_of_an_ordinary_commit(continuous_integration):
    code, said = continuous_integration("Merge faster\n\nThis closes a gap. See also: Closes #1")
    assert code == 0
    assert said == ["make env", "make env PROFILE=minilm", BEHIND, "make check", "make test-slow"]


def test_results_behind_the_code_fail_a_commit_that_closes_an_issue(continuous_integration):
    code, said = continuous_integration("Merge faster\n\nBy half.\n\nCloses #1")
    assert code == 1
    assert said == ["make env", "make env PROFILE=minilm", BEHIND, "make check", "make test-slow"]


@pytest.mark.parametrize("target", ["check", "test-slow"])
def test_a_failing_test_fails_every_commit(continuous_integration, tmp_path, target):
    (tmp_path / "failing").write_text(f"make {target}\n")
    assert continuous_integration("Merge faster")[0] == 2
