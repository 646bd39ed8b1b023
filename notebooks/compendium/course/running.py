# SPDX-License-Identifier: MIT
"""Runs the cells of a submission, in a process of its own: ``python -m compendium.course.running < REQUEST``.

The request is JSON with cells, each with its ``number``, its ``source`` and whether it is a ``check``, and with
``seconds`` for each of them and bytes of ``memory``. The answer is one line of JSON for each cell that was run, as soon
as it is known what became of it: ``ok``, ``error``, ``too long`` or ``died``, and its outputs.

After a cell that never ends or that kills its kernel, a new kernel is told what came before, so that it costs the
points of its own exercise and no others. The process that started this one ends it when it has taken too long in all.
"""

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from compendium.course import memory

MOST = 200_000
"""Characters of output that are kept of a cell."""

LEFT_OUT = "[The cell printed or showed more than is kept.]\n"

START = 300
"""Seconds in which a kernel must be there, and must have loaded what assignments need, on a machine that is busy."""

OURS = 2**31
"""Bytes of address space for this process, which keeps what a cell prints."""


class Cell(TypedDict):
    """What is to be run of a cell."""

    number: int
    source: str
    check: bool


class Request(TypedDict):
    """What is to be run, and for each cell the seconds and the bytes that it may take."""

    cells: list[Cell]
    seconds: int
    memory: int


class Ran(TypedDict):
    """What became of a cell."""

    number: int
    status: str
    outputs: list[dict[str, Any]]


def run(request: Request, tell: Callable[[Ran], object]) -> None:
    """Run cells one after the other, and tell of each what became of it."""
    before: list[Cell] = []
    waiting = list(request["cells"])
    while waiting:
        with _kernel(request["memory"]) as client:
            if any(_ran(client, cell, request["seconds"])["status"] in LOST for cell in before):
                return
            while waiting:
                cell = waiting.pop(0)
                found = _ran(client, cell, request["seconds"])
                tell(found)
                if found["status"] in LOST:
                    break
                if not cell["check"]:
                    before.append(cell)


LOST = ("too long", "died")
"""What becomes of cells after which a kernel cannot go on."""


class _Client(NotebookClient):
    """Keeps so much of what a cell prints and shows, and no more."""

    kept = 0

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data"):
            before, content = self.kept, msg["content"]
            self.kept += sum(len(str(part)) for part in (content.get("text", ""), *content.get("data", {}).values()))
            if before <= MOST < self.kept:
                cell.outputs.append(nbformat.v4.new_output("stream", name="stdout", text=LEFT_OUT))  # type: ignore[no-untyped-call]
            if self.kept > MOST:
                return None
        return super().process_message(msg, cell, cell_index)


@contextlib.contextmanager
def _kernel(extra: int) -> Iterator[_Client]:
    """Start a kernel that has loaded what assignments need and may take so much more memory."""
    # Where there is no network, not even the machine's own, sockets are files.
    config = Config({"KernelManager": {"transport": "ipc", "ip": "kernel"}})
    options: dict[str, Any] = {"kernel_manager_class": AsyncKernelManager, "kernel_name": "python3", "config": config}
    options |= {"allow_errors": True, "shutdown_kernel": "immediate", "startup_timeout": START, "timeout": START}
    loading = nbformat.v4.new_code_cell(memory.call(extra))  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[loading])  # type: ignore[no-untyped-call]
    client = _Client(notebook, coalesce_streams=True, **options)
    # What a kernel writes past its messages must not look like an answer of this process.
    with client.setup_kernel(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        client.execute_cell(loading, 0)
        if loading.outputs:
            raise RuntimeError(f"the kernel is not ready: {loading.outputs[0].get('evalue')}")
        yield client


def _ran(client: _Client, asked: Cell, seconds: int) -> Ran:
    cell = nbformat.v4.new_code_cell(asked["source"])  # type: ignore[no-untyped-call]
    client.nb.cells, client.timeout, client.kept = [cell], seconds, 0
    try:
        client.execute_cell(cell, 0, execution_count=asked["number"])
        status = "error" if _stopped(cell.outputs) else "ok"
    except CellTimeoutError:
        status = "too long"
    except DeadKernelError:
        status = "died"
    return {"number": asked["number"], "status": status, "outputs": list(cell.outputs)}


def _stopped(outputs: Sequence[NotebookNode]) -> bool:
    return any(output.output_type == "error" for output in outputs)


def main() -> None:
    """Answer the request that the standard input holds."""
    request: Request = json.load(sys.stdin)
    # A kernel that dies leaves no dump of its memory, and may write no file that fills the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory.LARGEST_FILE, memory.LARGEST_FILE))
    memory.limit(OURS, hard=False)
    run(request, lambda ran: print(json.dumps(ran), flush=True))  # noqa: T201  (the answer)


if __name__ == "__main__":
    main()
