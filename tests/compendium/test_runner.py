# SPDX-License-Identifier: MIT
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest

from compendium import commands, paths, runner, sourcecode

PATIENCE = 120  # seconds; a crowded machine may need a minute to start a kernel
HEAD = """\
# %% [markdown]
# # A small notebook

# %% tags=["parameters"]
profile = "smoke"  # which size
steps = 3  # how many
share = 0.5  # of what

# %%
import os
import time

import pandas as pd

from compendium import paths
from compendium.paper import results
from tsvlib import progress
from tsvlib.errors import InputError

# %%
frame = pd.DataFrame({"name": ["a"], "value": [share]})
results.save("small", frame, profile, {"name": "key", "value": "share"})
with progress.track(steps, "counting") as bar:
    for _ in range(steps):
        bar.update()
print("counted", steps)

# %%
"""


@pytest.fixture(autouse=True)
def _own_build_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "build", lambda: tmp_path / "build")


@pytest.fixture
def notebook(tmp_path):
    """Return a function that writes a notebook whose last cell is given."""

    def write(last="steps"):
        source = tmp_path / "90_small.py"
        source.write_text(HEAD + last + "\n", encoding="utf-8")
        return str(source)

    return write


@pytest.fixture
def earlier():
    """Results of an earlier run, which no failure may touch."""
    folder = paths.results("smoke")
    folder.mkdir(parents=True)
    for name in ("small.csv", "small.json"):
        (folder / name).write_text("earlier")
    return lambda: (
        {file.name: file.read_text() for file in folder.iterdir()}
        == dict.fromkeys(("small.csv", "small.json"), "earlier")
    )


def test_success_puts_results_and_copy_in_place(notebook, earlier, capsys, tmp_path):
    assert commands.main(["run", notebook()]) == 0
    assert not earlier()
    assert (paths.results("smoke") / "small.csv").read_text() == "name,value\na,0.5\n"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "counting: 3/3" in shown.err
    assert "90_small: done" in shown.err
    assert "counted 3" in (paths.notebooks("smoke") / "90_small.ipynb").read_text()
    assert not list((tmp_path / "build").rglob("*.stage"))
    assert "90_small" in (tmp_path / "build" / "runs.jsonl").read_text()


def test_what_cells_print_and_show_is_said_on_request(notebook, capsys):
    assert commands.main(["run", notebook("frame"), "--show"]) == 0
    assert capsys.readouterr().out == "counted 3\n\n  name  value\n0    a    0.5\n"


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(notebook):
    contents = []
    for _ in range(2):
        assert commands.main(["run", notebook()]) == 0
        contents.append([file.read_bytes() for file in sorted(paths.output_root("smoke").rglob("*.*"))])
    assert contents[0] == contents[1]


def test_the_copy_has_no_counts_times_ids_or_injected_defaults(notebook):
    assert commands.main(["run", notebook(), "-p", "profile=smoke", "-p", "steps=3", "-p", "share=0.5"]) == 0
    copy = nbformat.read(paths.notebooks("smoke") / "90_small.ipynb", as_version=4)
    assert not copy.metadata.keys() - {"kernelspec"}
    assert [cell.id for cell in copy.cells] == [str(i) for i in range(len(copy.cells))]
    assert all(cell.get("execution_count") is None for cell in copy.cells)
    assert not [cell for cell in copy.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert [cell.metadata for cell in copy.cells if cell.metadata] == [{"tags": ["parameters"]}]


def test_parameters_reach_the_notebook(notebook):
    assert commands.main(["run", notebook(), "-p", "steps=5", "-p", "share=1"]) == 0
    assert "counted 5" in (paths.notebooks("smoke") / "90_small.ipynb").read_text()
    assert (paths.results("smoke") / "small.csv").read_text() == "name,value\na,1\n"


def test_the_sidecar_names_the_notebook_and_its_parameters_in_this_run(notebook):
    assert commands.main(["run", notebook(), "-p", "steps=5"]) == 0
    sidecar = json.loads((paths.results("smoke") / "small.json").read_text(encoding="utf-8"))
    assert sidecar["notebook"] == "90_small.py"
    assert sidecar["parameters"] == {"profile": "smoke", "steps": 5, "share": 0.5}
    assert sidecar["code"] == sourcecode.digest(Path(notebook()))


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("profile=smok", "there is no profile 'smok'"),
        ("stepz=1", "there is no parameter 'stepz'; the parameters are profile, steps, share."),
        ("steps=many", "'steps' must be of type int"),
        ("steps=1.5", "'steps' must be of type int"),
        ("steps", "write a parameter as NAME=VALUE"),
    ],
)
def test_a_wrong_command_is_one_sentence(notebook, earlier, capsys, parameter, sentence):
    assert commands.main(["run", notebook(), "-p", parameter]) == 2
    said = capsys.readouterr().err.splitlines()
    assert sentence in said[-1]
    assert "Traceback" not in "".join(said)
    assert earlier()


@pytest.mark.parametrize("name", ["notebooks/99_nothing.py", "notebooks/99_nothing.ipynb", "README.md", "notebooks"])
def test_an_unknown_notebook_is_one_sentence(capsys, name):
    assert commands.main(["run", name]) == 2
    said = capsys.readouterr().err.splitlines()[-1].removeprefix("Error: ")
    assert said.startswith(f"{name.replace('.ipynb', '.py')}: there is no such notebook; choose one of 00_tour, ")


def test_the_name_of_the_executed_copy_means_its_source(notebook, tmp_path):
    assert commands.main(["run", notebook().replace(".py", ".ipynb"), "-p", "steps=2"]) == 0
    assert "counted 2" in (paths.notebooks("smoke") / "90_small.ipynb").read_text()


def test_a_run_with_other_parameters_goes_where_it_can_replace_nothing(
    notebook, earlier, monkeypatch, capsys, tmp_path
):
    source = notebook()
    monkeypatch.delenv("TSV_OUTPUT")
    assert commands.main(["run", source, "-p", "steps=2", "-p", "share=0.5"]) == 0
    root = tmp_path / "build" / "smoke-steps-2"
    assert (root / "data" / "results" / "smoke" / "small.csv").read_text() == "name,value\na,0.5\n"
    copy = root / "notebooks" / "smoke" / "90_small.ipynb"
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"; the executed copy is {os.path.relpath(copy)}")
    assert "counted 2" in copy.read_text()
    assert not (tmp_path / "build" / "smoke" / "data").exists()


def test_a_part_reads_and_writes_in_a_folder_of_its_own_and_shares_the_cache(notebook, monkeypatch, tmp_path):
    source = Path(notebook("print(paths.results(profile), paths.cache(profile))"))
    chosen = 'backbones = ""  # which\nsuites = ""  # how large\nsteps = 3'
    source.write_text(source.read_text().replace("steps = 3", chosen))
    monkeypatch.delenv("TSV_OUTPUT")
    assert commands.main(["run", str(source), "-p", "backbones=smoke-l14", "-p", "suites=2"]) == 0
    root = tmp_path / "build" / "smoke+backbones-smoke-l14+suites-2"
    results = root / "data" / "results" / "smoke"
    assert f"{results} {paths.cache('smoke')}" in (root / "notebooks" / "smoke" / "90_small.ipynb").read_text()
    assert json.loads((results / "small.json").read_text())["parameters"]["suites"] == "2"
    assert not (tmp_path / "build" / "smoke" / "data").exists()
    assert commands.main(["run", str(source), "-p", "suites=4"]) == 2


def test_a_users_mistake_inside_the_notebook_is_one_sentence(notebook, earlier, capsys):
    assert (
        commands.main(["run", notebook('raise InputError("expert.safetensors: it is missing; run make experts.")')])
        == 1
    )
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == "expert.safetensors: it is missing; run make experts."
    assert "Traceback" not in said
    assert earlier()


def test_another_failure_shows_the_traceback_and_keeps_the_draft(notebook, earlier, capsys, tmp_path):
    assert commands.main(["run", notebook("1 / 0")]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "90_small.ipynb shows the whole notebook" in said
    assert "ZeroDivisionError" in (tmp_path / "build" / "smoke" / "90_small.ipynb").read_text()
    assert earlier()
    assert not (paths.notebooks("smoke") / "90_small.ipynb").exists()


def test_a_dead_kernel_is_told(notebook, earlier, capsys):
    assert commands.main(["run", notebook("os._exit(1)")]) == 1
    assert "the Python process of the notebook died" in capsys.readouterr().err
    assert earlier()


@pytest.mark.parametrize(("failures", "code"), [(2, 0), (3, 1)])
def test_a_kernel_that_does_not_start_is_started_again(notebook, earlier, capsys, monkeypatch, failures, code):
    execute, attempts = papermill.execute_notebook, []

    def sometimes(*arguments, **options):
        attempts.append(arguments)
        if len(attempts) <= failures:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return execute(*arguments, **options)

    monkeypatch.setattr(papermill, "execute_notebook", sometimes)
    assert commands.main(["run", notebook()]) == code
    assert len(attempts) == 3
    assert earlier() == bool(code)
    assert ("died before replying" in capsys.readouterr().err) == bool(code)


def test_a_full_disk_changes_nothing(notebook, earlier, capsys, monkeypatch):
    copied, copy = [], shutil.copyfile

    def fills_up(source, target):
        copied.append(source)
        if len(copied) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", fills_up)
    assert commands.main(["run", notebook()]) == 1
    assert "disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert len(copied) == 2
    assert earlier()


def test_a_full_disk_under_the_draft_is_one_sentence(notebook, earlier, capsys, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "draft")

    monkeypatch.setattr(nbformat, "write", fails)
    assert commands.main(["run", notebook()]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("draft: the disk is full;")
    assert earlier()


@pytest.mark.parametrize("obstacle", ["permission", "file"])
def test_an_unwritable_folder_is_found_before_the_work(notebook, earlier, capsys, monkeypatch, obstacle):
    if obstacle == "permission":  # simulated, because root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: path != paths.results("smoke"))
    else:
        (paths.output_root("smoke") / "figures").write_text("in the way")
    started = time.monotonic()
    assert commands.main(["run", notebook("time.sleep(600)")]) == 1
    assert time.monotonic() - started < 10
    assert "cannot write there" in capsys.readouterr().err.splitlines()[-1]
    assert earlier()


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_nothing_half_made(notebook, earlier, tmp_path, interrupt):
    mark = tmp_path / "kernel"
    source = notebook(f'open({str(mark)!r}, "w").write(str(os.getpid()))\ntime.sleep(600)')
    code = "import sys; from pathlib import Path; from compendium import commands, paths\n"
    code += f"paths.build = lambda: Path({str(tmp_path / 'build')!r}); sys.exit(commands.main({['run', source]!r}))"
    # A process that a shell starts in the background ignores SIGINT and hands that down; a terminal's does not.
    child = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code
    process = subprocess.Popen([sys.executable, "-c", child], stderr=subprocess.PIPE, text=True, cwd=paths.ROOT)
    try:
        wait_until(lambda: mark.exists() and mark.read_text())
        process.send_signal(interrupt)
        said = process.communicate(timeout=PATIENCE)[1]
        wait_until(lambda: not is_running(int(mark.read_text())))
    finally:
        process.kill()
        process.communicate()
    assert earlier()
    if interrupt == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "90_small: interrupted; the same command finishes the work."
    assert commands.main(["run", notebook()]) == 0
    assert not list((tmp_path / "build").rglob("*.stage"))


def wait_until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_running(process):
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_run_of_a_notebook_waits_for_the_first(tmp_path, capsys):
    stage, order = tmp_path / "90_small.stage", []

    def second():
        with runner._staging(stage):
            order.append("second")

    thread = threading.Thread(target=second)
    with runner._staging(stage):
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "90_small: waiting" in capsys.readouterr().err


def test_what_libraries_say_about_the_machine_stays_out_of_the_copy():
    stream = nbformat.v4.new_output
    outputs = [stream("stream", name="stderr", text="/some/place: warning"), stream("stream", name="stdout", text="7")]
    draft = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("7", outputs=outputs)])
    assert [output.text for output in runner.tidied(draft).cells[0].outputs] == ["7"]
