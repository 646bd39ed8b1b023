# SPDX-License-Identifier: MIT
"""What a method makes of experts is the same here and apart, and whatever a method does, one sentence tells of it."""

import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from compendium.course import confinement, recipes
from compendium.course.inputs import Inputs
from tsvlib import checkpoints
from tsvlib.errors import InputError

SUM = "def own_method(deltas):\n    return torch.stack(deltas).sum(0)\n"


def own_method(deltas):  # without annotations, since only its own text is handed in
    """Return the sum."""
    return torch.stack(deltas).sum(0)


def models() -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    inputs = Inputs(3)
    return inputs.weights(), [inputs.weights() for _ in range(3)]


def method(body: str) -> str:
    return f"def own_method(deltas):\n    {body}\n"


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[Path]]:
    base, experts = models()
    files = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for file, state in zip(files, [base, *experts], strict=True):
        checkpoints.save(file, state, {})
    return files[0], files[1:]


def test_matrices_get_the_method_and_all_else_the_mean() -> None:
    base, experts = models()
    found = recipes.update(own_method, base, experts)
    for key, start in base.items():
        changes = torch.stack([expert[key].double() - start.double() for expert in experts])
        wanted = changes.sum(0) if key in ("visual.proj", "mlp.weight") else changes.mean(0)
        torch.testing.assert_close(found[key].double(), wanted, atol=1e-5, rtol=0)


def test_a_method_cannot_change_the_experts() -> None:
    base, experts = models()
    before = [{key: tensor.clone() for key, tensor in expert.items()} for expert in experts]
    recipes.update(lambda deltas: deltas[0].zero_() + 1, base, experts)
    assert all(torch.equal(one[key], two[key]) for one, two in zip(before, experts, strict=True) for key in one)


def test_the_text_of_a_function_is_the_function() -> None:
    base, experts = models()
    again = recipes.method_of(recipes.source_of(own_method))
    one, two = recipes.update(own_method, base, experts), recipes.update(again, base, experts)
    assert all(torch.equal(one[key], two[key]) for key in base)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (len, "its text is not to be found"),
        (3, "its text is not to be found"),
        (lambda deltas: deltas[0], "its text"),
        (method, "defines no function of that name"),
    ],
)
def test_what_has_no_text_of_its_own_is_refused(function: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        recipes.source_of(function)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def own_method(deltas:\n", "no Python that runs (SyntaxError"),
        ("1 / 0\n", "no Python that runs (ZeroDivisionError: division by zero)"),
        ("own_method = 3\n", "defines no function of that name"),
        (method("return tsv_m(deltas)"), "define what it needs inside of it"),
        (method("return deltas[9]"), "stopped with IndexError"),
        (method("raise ValueError"), "stopped with ValueError: no message"),
        (method("return deltas"), "returns no tensor with the shape"),
        (method("return deltas[0].sum()"), "returns no tensor with the shape"),
        (method("return sum(deltas) / 0"), "holds NaN or Inf"),
    ],
)
def test_a_method_that_fails_is_told_in_a_sentence(source: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        recipes.update(recipes.method_of(source), *models())
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.startswith("own_method")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_what_is_not_written_yet_is_no_mistake() -> None:
    with pytest.raises(NotImplementedError):
        recipes.update(recipes.method_of(method("raise NotImplementedError()")), *models())


def test_apart_it_is_the_same(written: tuple[Path, list[Path]]) -> None:
    found, wanted = recipes.update_apart(SUM, *written), recipes.update(own_method, *models())
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return sum(deltas) / 0", "NaN or Inf"),
        ("return torch.ones(10**10).sum() * deltas[0]", "memory"),
        ("open('large', 'wb').write(bytes(10**9))", "OSError.*File too large"),
        ("import os; os._exit(0)", "ended the process"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the process"),
        ("import sys; sys.exit()", "ended the process"),
        ("raise NotImplementedError", "ended the process"),
    ],
)
def test_what_a_method_does_apart_stays_there(body: str, words: str, written: tuple[Path, list[Path]]) -> None:
    with pytest.raises(InputError, match=words):
        recipes.update_apart(method(body), *written)


def test_an_endless_method_ends_and_so_does_all_that_it_started(
    tmp_path: Path, written: tuple[Path, list[Path]]
) -> None:
    note = tmp_path / "started"
    body = (
        "import subprocess, pathlib\n"
        "    child = subprocess.Popen(['sleep', '86398.25'])\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "    while True: print('on and on')"
    )
    with pytest.raises(InputError, match="does not end within 2 seconds of computing"):
        recipes.update_apart(method(body), *written, seconds=2)
    assert note.exists()
    # A process that has been killed may take a moment to be gone.
    deadline = time.monotonic() + 60
    while any("86398.25" in (each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_method_has_no_network(written: tuple[Path, list[Path]]) -> None:
    if confinement.walls().missing:
        pytest.skip(confinement.walls().missing)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        body = f"import socket; socket.create_connection({server.getsockname()!r}, 5); return sum(deltas)"
        with pytest.raises(
            InputError, match=r"it stopped with OSError: \[Errno 101\] Network is unreachable; correct it"
        ):
            recipes.update_apart(method(body), *written)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_method_that_sleeps_is_not_waited_for(
    written: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "PATIENCE", 5)
    with pytest.raises(InputError, match="does not end within 60 seconds of computing"):
        recipes.update_apart(method("import time; time.sleep(1000)"), *written)
