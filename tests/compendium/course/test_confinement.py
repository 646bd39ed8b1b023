# SPDX-License-Identifier: MIT
"""What a submission can do to the machine and to others, tried in the process in which submissions run."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from compendium import paths
from compendium.course import confinement, memory, running, supervision
from compendium.course.supervision import Limits
from tsvlib.errors import InputError

# Generous, as a kernel may start beside other work; cells that never end take as long as this.
SECONDS = 20

STUBBORN = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""


def run(*sources: str, seconds: int = 600, hidden: tuple[Path, ...] = ()) -> list[Any]:
    cells: list[Any] = [{"number": n, "source": text, "check": False} for n, text in enumerate(sources)]
    request: Any = {"cells": cells, "seconds": SECONDS, "memory": 2**31}
    return list(supervision.run(request, Limits(seconds=seconds), hidden))


def words(process: Path) -> bytes:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def printed(ran: Any) -> str:
    return "".join(output.get("text", "") for output in ran["outputs"])


@pytest.mark.slow
def test_a_cell_that_never_ends_or_kills_its_kernel_costs_itself_and_no_other() -> None:
    found = run(
        "import os, torch\nx = 1",
        "def f(): return x",
        STUBBORN,
        "print(f())",
        "os._exit(0)",
        "import ctypes\nctypes.string_at(0)",
        "print(f() + 1)",
        "def g() return",
        "import time\ntime.sleep(3600)",
        "print(f() + 2)",
    )
    statuses = ["ok", "ok", "too long", "ok", "died", "died", "ok", "error", "too long", "ok"]
    assert [each["status"] for each in found] == statuses
    assert [printed(found[number]) for number in (3, 6, 9)] == ["1\n", "2\n", "3\n"]
    assert found[7]["outputs"][0]["ename"] == "SyntaxError"


def test_memory_network_and_disk_have_limits(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden tests", encoding="utf-8")
    found = run(
        "import torch\ntorch.zeros(10**10)",
        "x = [0] * 10**9",
        "import socket\nsocket.create_connection(('127.0.0.1', 9), 2)",
        "import socket\nsocket.create_connection(('192.0.2.1', 9), 2)",
        f"open('file', 'wb').write(bytes({2 * memory.LARGEST_FILE}))",
        f"import os\nprint(os.path.exists('{tmp_path / 'secret'}'), sorted(os.environ))",
        "print(1)",
        hidden=(tmp_path,),
    )
    assert [each["status"] for each in found] == ["error"] * 5 + ["ok"] * 2
    names = [each["outputs"][0]["ename"] for each in found[:5]]
    assert names == ["RuntimeError", "MemoryError", "OSError", "OSError", "OSError"]
    if confinement.walls().missing:
        pytest.skip(confinement.walls().missing)
    assert "unreachable" in found[2]["outputs"][0]["evalue"]
    assert "unreachable" in found[3]["outputs"][0]["evalue"]
    assert printed(found[5]).startswith("False")
    assert "PYTEST_CURRENT_TEST" not in printed(found[5])
    assert (tmp_path / "secret").read_text(encoding="utf-8") == "hidden tests"


def test_a_flood_of_output_is_cut_and_a_dead_kernel_costs_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = ("for _ in range(200): print('x' * 100_000)", "x = 1", "import os\nos._exit(0)", "print(x)")
    cells: list[Any] = [{"number": n, "source": text, "check": False} for n, text in enumerate(sources)]
    found: list[Any] = []
    # In this process, as the one of its own does it.
    running.run({"cells": cells, "seconds": SECONDS, "memory": 2**31}, found.append)
    assert [each["status"] for each in found] == ["ok", "ok", "died", "ok"]
    assert len(printed(found[0])) < 1_000_000
    assert "more than is kept" in printed(found[0])
    assert printed(found[3]) == "1\n"


@pytest.mark.slow
def test_the_time_of_all_cells_ends_everything_even_what_was_left_behind(tmp_path: Path) -> None:
    left = "import subprocess\nsubprocess.Popen(['sleep', '86399.5'], start_new_session=True)\nprint(1)"
    started = time.monotonic()
    found = run(left, "import time\nwhile True: time.sleep(1)", "print(2)", "print(3)", seconds=60)
    assert time.monotonic() - started < 60 + SECONDS
    assert [each["number"] for each in found][:1] == [0]
    if confinement.walls().missing:
        pytest.skip(confinement.walls().missing)
    assert not [process for process in Path("/proc").glob("[0-9]*") if b"86399.5" in words(process)]


def test_a_process_that_does_not_start_is_no_fault_of_a_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "_surroundings", lambda folder: {"PYTHONHOME": folder})
    with pytest.raises(InputError, match=r"^no cell could be run: .*; see to that and mark again\.$"):
        run("print(1)")


def test_what_a_machine_does_not_allow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = confinement.walls.__wrapped__()
    assert found.command == ()
    assert found.missing.startswith("What students wrote is not apart here: it can use the network")


def test_the_process_is_told_nothing_of_whoever_grades(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "1234")
    monkeypatch.setenv("TSV_CACHE", "elsewhere")
    found = confinement._surroundings(str(tmp_path))
    assert "SECRET_TOKEN" not in found
    assert {found[name] for name in ("HOME", "TSV_CACHE", "TSV_OUTPUT", "IPYTHONDIR")} == {str(tmp_path)}
    assert str(paths.ROOT / "notebooks") in found["PYTHONPATH"]
