# SPDX-License-Identifier: MIT
"""What a reader does in the JupyterLab that ``make lab`` starts: open, change a line, save, run; nothing gets lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import checkout
import chromium
import nbformat
import pytest
from checkout import KINDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not chromium.COMMAND, reason="there is no Chromium; install the package chromium"),
]
PATIENCE = 240
"""Seconds for one browser, or for the server to start, on a crowded machine."""


LINE = "print(provenance.versions_line())"
"""What every notebook ends with, whatever its prose, its code and its numbers are."""
INSERTIONS = (', "Edited"', ', "here."')
"""Each is written before the last letter of that line, and saved."""
INLINE = "module://matplotlib_inline.backend_inline"
"""What shows figures in a notebook, where nobody sets another backend as the tests do."""
EDITED = LINE[:-1] + "".join(INSERTIONS) + LINE[-1]


class Lab(NamedTuple):
    """A copy of the checkout and the address of the JupyterLab that runs in it."""

    folder: Path
    address: str


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = checkout.copied(tmp_path_factory.mktemp("checkout"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"LAB=--no-browser --ip=127.0.0.1 --port={port} --IdentityProvider.token=open --allow-root"
    command = ["make", "lab", f"VENV={sys.prefix}", options]
    with (folder.parent / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=checkout.surroundings(folder, MPLBACKEND=INLINE),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: answers(port) or server.poll() is not None)
        assert server.poll() is None, (folder.parent / "log").read_text()
        yield Lab(folder, f"http://127.0.0.1:{port}")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def edited(lab, tmp_path_factory):
    """Change a notebook of every kind and run them; return what the copies and their sources held before."""
    before = {
        file: file.read_text(encoding="utf-8")
        for name in KINDS.values()
        for file in (lab.folder / "notebooks").glob(f"{name}.*")
    }
    for name in KINDS.values():
        with opened(lab, name, tmp_path_factory.mktemp("browser")) as browser:
            for insertion in INSERTIONS:
                change(browser, LINE[:-1], 1, insertion)
                assert dialogs(browser) == []
    targets = [f"build/smoke/notebooks/smoke/{name}.ipynb" for name in KINDS.values()]
    made = checkout.run(lab.folder, "make", "PROFILE=smoke", *targets)
    assert made.returncode == 0, made.stderr
    return before


@contextmanager
def opened(lab, name, folder):
    """Yield a browser of its own that shows a notebook of the checkout, ready to be edited."""
    with chromium.started(folder, PATIENCE) as browser:
        browser.ask("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        browser.visit(f"{lab.address}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token=open")
        browser.wait("document.querySelector('.jp-Dialog') || document.querySelector('.jp-Notebook .cm-line')")
        browser.wait("document.querySelector('.jp-Dialog') || document.body.innerText.includes('| Idle')")
        assert dialogs(browser) == []
        yield browser


def change(browser, start, before_end, text):
    """Write into the line that starts so, and save; return when that is done or JupyterLab asks something."""
    line = f"[...document.querySelectorAll('.jp-Notebook .cm-line')].find(e => e.textContent.startsWith({start!r}))"
    browser.wait(line)
    browser.measure(f"{line}.scrollIntoView({{block: 'center'}})")
    place = "line.closest('.cm-content').focus(); getSelection().collapse(line, line.childNodes.length)"
    browser.measure(f"(line => {{ {place} }})({line})")
    browser.press("End", 35)
    for _ in range(before_end):
        browser.press("ArrowLeft", 37)
    browser.write(text)
    browser.press("s", 83, chromium.CONTROL)
    # A cell that was changed since it ran is called dirty, too.
    browser.wait("document.querySelector('.jp-Dialog') || !document.querySelector('.jp-mod-dirty:not(.jp-Cell)')")


def dialogs(browser):
    return browser.measure("[...document.querySelectorAll('.jp-Dialog')].map(e => e.innerText)")


def answers(port):
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def outputs(text):
    return [cell.get("outputs") for cell in nbformat.reads(text, as_version=4).cells]


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_was_changed_and_saved_is_in_source_copy_and_outcome(lab, edited, kind):
    source = lab.folder / "notebooks" / f"{KINDS[kind]}.py"
    assert edited[source].count(LINE) == 1
    assert source.read_text(encoding="utf-8") == edited[source].replace(LINE, EDITED)
    copy = source.with_suffix(".ipynb")
    assert outputs(copy.read_text(encoding="utf-8")) == outputs(edited[copy])
    executed = lab.folder / "build" / "smoke" / "notebooks" / "smoke" / copy.name
    *_, last = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    assert EDITED in last.source
    assert " Edited here.\n" in "".join(output.get("text", "") for output in last.outputs)


def test_tables_come_from_the_changed_sources(lab, edited):
    """The sidecar of a table names the code of the notebook that computed it."""
    table, source = lab.folder / "build" / "smoke" / "data" / "results" / "smoke", KINDS["compute"]
    again = checkout.run(lab.folder, "-m", "compendium", "check-tables", str(table))
    assert again.returncode == 0, again.stdout
    file = lab.folder / "notebooks" / f"{source}.py"
    kept = file.read_text(encoding="utf-8")
    file.write_text(edited[file], encoding="utf-8")
    before = checkout.run(lab.folder, "-m", "compendium", "check-tables", str(table))
    file.write_text(kept, encoding="utf-8")
    assert before.returncode == 1
    assert "1 of" in before.stdout


def test_nothing_else_of_the_checkout_has_changed(lab, edited):
    changed = {f" M notebooks/{name}{suffix}" for name in KINDS.values() for suffix in (".py", ".ipynb")}
    assert set(checkout.changes(lab.folder)) == changed


def test_a_source_that_was_pulled_meanwhile_is_not_overwritten(lab, tmp_path):
    source = lab.folder / "notebooks" / "10_checkpoints.py"
    with opened(lab, "10_checkpoints", tmp_path) as browser:
        pulled = source.read_text(encoding="utf-8").replace("print(", "print('pulled', ")
        source.write_text(pulled, encoding="utf-8")
        change(browser, "import ", 0, "  # edited")
        assert "changed on disk" in dialogs(browser)[0]
        assert source.read_text(encoding="utf-8") == pulled
    checkout.git(lab.folder, "checkout", "--quiet", "notebooks/10_checkpoints.py")


def test_make_lab_opens_the_tour(lab, tmp_path):
    with chromium.started(tmp_path, PATIENCE) as browser:
        browser.visit(f"{lab.address}/?token=open")
        browser.wait("document.title.startsWith('00_tour')")


@pytest.fixture(scope="module")
def small_tour(lab):
    """Let the tour of the checkout be about tiny experts, which are there."""
    source = lab.folder / "notebooks" / "00_tour.py"
    kept = source.read_text(encoding="utf-8")
    source.write_text(kept.replace('profile = "mini"', 'profile = "smoke"', 1), encoding="utf-8")
    trained = checkout.run(lab.folder, "-m", "compendium", "train", "--profile", "smoke", "--first-suite")
    assert trained.returncode == 0, trained.stderr
    yield source.with_suffix(".ipynb")
    checkout.git(lab.folder, "checkout", "--quiet", "notebooks/00_tour.py", "notebooks/00_tour.ipynb")


def run_all(browser, copy):
    # As many as the file has, since the page holds only those that are near.
    for _ in nbformat.read(copy, as_version=4).cells:
        browser.press("Enter", 13, chromium.SHIFT)


def test_a_slider_moves_the_picture_and_no_file_holds_it(lab, small_tour, tmp_path_factory):
    slider, image = ".jp-Notebook .widget-hslider", ".jp-Notebook .widget-image"
    with opened(lab, "00_tour", tmp_path_factory.mktemp("first")) as browser:
        run_all(browser, small_tour)
        browser.wait(f"document.querySelectorAll({slider!r}).length == 3")
        browser.wait(f"(document.querySelector({image!r}) || {{}}).complete")
        first, shown = (
            browser.measure(f"document.querySelector({image!r}).{what}") for what in ("src", "naturalWidth")
        )
        assert shown > 600
        told = "[...document.querySelectorAll('.jp-Notebook .widget-label')].pop().textContent"
        assert "16 of 32 components of each task" in browser.measure(told)
        # Of the rank, from one half to all.
        browser.measure(f"document.querySelectorAll({slider!r})[1].querySelector('.noUi-handle').focus()")
        browser.press("ArrowRight", 39)
        browser.wait(f"!{told}.includes('16 of 32') && {told}.includes('components')")
        assert browser.measure(f"document.querySelector({image!r}).src") != first
        change(browser, LINE[:-1], 0, "  # seen")
        until(lambda: "# seen" in small_tour.read_text(encoding="utf-8"))
    text = small_tour.read_text(encoding="utf-8")
    assert "image/png" in text
    assert "widget-view" not in text
    with opened(lab, "00_tour", tmp_path_factory.mktemp("again")) as browser:
        # The page holds what is near, so go on until the end of the notebook is there.
        down = "[...document.querySelectorAll('.jp-Notebook .jp-Cell')].pop().scrollIntoView()"
        browser.wait(f"({down}, document.querySelector('.jp-Notebook').innerText.includes('Move the sliders'))")
        browser.wait("document.querySelector('.jp-Notebook .jp-RenderedImage img')")
        assert "rror displaying" not in browser.measure("document.querySelector('.jp-Notebook').innerText")


def test_running_every_cell_leaves_a_draft_and_what_is_committed_as_it_was(lab, tmp_path):
    before = checkout.changes(lab.folder)
    with opened(lab, "33_tab_requirements", tmp_path) as browser:
        run_all(browser, lab.folder / "notebooks" / "33_tab_requirements.ipynb")
        browser.wait("document.querySelector('.jp-Notebook').innerText.includes('This is a draft')")
        assert not browser.measure("document.querySelector('.jp-Notebook').innerText.includes('Warning')")
    assert (lab.folder / "build" / "drafts" / "figures" / "mini" / "requirements.md").is_file()
    assert checkout.changes(lab.folder) == before
