# SPDX-License-Identifier: MIT
"""Run one notebook, all or nothing: ``python -m compendium run notebooks/13_merge.py -p profile=smoke``.

The notebook writes its results to a stage folder. When its last cell has succeeded, results and executed copy move
into place together; after any failure earlier results are untouched and the draft keeps the traceback.
"""

import ast
import fcntl
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import jupytext
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbstripout import strip_output

from compendium import paths, profiles, sourcecode, views
from compendium.terminal import shown_on_terminal, tell
from tsvlib.errors import InputError
from tsvlib.files import replacing

VOLATILE = ["metadata.papermill", "metadata.language_info", "metadata.jupytext", "metadata.widgets"]
VOLATILE += ["cell.metadata.papermill", "cell.metadata.execution"]
NOT_STARTED = ("Kernel died before", "Kernel didn't respond")
CHOOSING = {"profile": paths.COMPARED, "backbones": "", "suites": ""}
"""Parameters that say of which profile, and of which part of it, a run is, and what they are where there is none."""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


class CommandError(InputError):
    """A command line that names something unknown."""


class NotebookError(Exception):
    """A cell failed for a reason that is not the user's; the text holds the traceback."""


def run(source: Path, parameters: Mapping[str, str]) -> Path:
    """Execute the notebook ``source`` (its ``.py``, or the paired ``.ipynb``) and return the path of its executed copy.

    Raises:
        CommandError: unknown notebook, parameter or profile, or a value of the wrong type; nothing has been run.
        InputError: no permission, a full disk, or an InputError raised inside the notebook.
        NotebookError: any other failure of a cell.
    """
    source = source.with_suffix(".py") if source.suffix == ".ipynb" else source
    if source.suffix != ".py" or not source.is_file():
        known = ", ".join(sorted(file.stem for file in (paths.ROOT / "notebooks").glob("*.py")))
        raise CommandError(f"{source}: there is no such notebook; choose one of {known}.")
    notebook = jupytext.read(source)
    notebook.metadata.kernelspec = KERNEL
    changed, profile, part = _strict_parameters(source, parameters)
    place = paths.destination(profile, {name: value for name, value in changed.items() if name not in CHOOSING}, part)
    _check_writable(profile, place)
    draft = paths.build() / profile / f"{source.stem}.ipynb"
    copy = (paths.notebooks(profile) / draft.name).relative_to(paths.output_root(profile))
    stage = draft.with_suffix(".stage")
    with _staging(stage):
        executed = _execute(notebook, changed, source, draft, stage, paths.surroundings(profile, part))
        (stage / copy).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(tidied(executed), stage / copy)  # type: ignore[no-untyped-call]
        _move_into_place(stage, place)
    return place / copy


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook with its outputs, but without counts, times and random ids: same run, same bytes.

    What libraries write to the standard error stream (a font cache is built, a widget is missing) depends on the
    machine and names its folders; the draft keeps it. Widgets, such as the progress bars of some libraries, are gone
    with their kernel. Empty lists of tags, which papermill adds, would go from JupyterLab into the source.
    """
    clean: nbformat.NotebookNode = strip_output(
        notebook, keep_output=True, keep_count=False, keep_id=False, extra_keys=VOLATILE
    )
    for cell in clean.cells:
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            lasting = (output for output in cell.outputs if not views.holds_view(output))
            cell.outputs = [output for output in lasting if output.get("name") != "stderr"]
    return clean


def printed(copy: Path) -> str:
    """Return what the cells of an executed copy have printed and shown, as text."""
    notebook = nbformat.read(copy, as_version=4)  # type: ignore[no-untyped-call]
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n\n".join(text.strip("\n") for text in texts if text)


def _strict_parameters(source: Path, given: Mapping[str, str]) -> tuple[dict[str, object], str, str]:
    """Return the parameters that differ from the defaults, the profile and which part of it is meant.

    Of notebooks that belong to no single profile, that is ``COMPARED``.
    """
    defaults = sourcecode.parameters(source)
    if unknown := sorted(given.keys() - defaults.keys()):
        known = ", ".join(defaults)
        raise CommandError(f"{source}: there is no parameter {unknown[0]!r}; the parameters are {known}.")
    values = {name: _parse(source, name, text, defaults[name]) for name, text in given.items()}
    chosen = [str({**defaults, **values}.get(name, usual)) for name, usual in CHOOSING.items()]
    try:
        part = "" if chosen[0] == paths.COMPARED else profiles.load(*chosen).part
    except InputError as error:
        raise CommandError(str(error)) from error
    profile = paths.COMPARED if source.parent.name == paths.COMPARED else chosen[0]
    # A parameter that equals its default would add a cell to the copy that people read.
    return {name: value for name, value in values.items() if value != defaults[name]}, profile, part


def _parse(source: Path, name: str, text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        kind = type(default).__name__
        raise CommandError(f"{source}: parameter {name!r} must be of type {kind}, as {default!r} is, not {text!r}.")
    return value


def _check_writable(profile: str, place: Path) -> None:
    """Find out before hours of work that their result could not be written below ``place``."""
    root = paths.output_root(profile)
    owned = (paths.results(profile), paths.figures(profile), paths.notebooks(profile))
    folders = (paths.build(), paths.cache(profile), *(place / folder.relative_to(root) for folder in owned))
    for folder in folders:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"{existing}: cannot write there; give yourself permission or set OUT to another folder.")


@contextmanager
def _staging(stage: Path) -> Iterator[None]:
    """Make an empty stage folder for the block; another run that uses it is waited for.

    When ``make`` is killed, a notebook that it started may go on to its end, while the next ``make`` starts anew.
    """
    stage.parent.mkdir(parents=True, exist_ok=True)
    with stage.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{stage.stem}: waiting for another run of this notebook to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _execute(
    notebook: nbformat.NotebookNode,
    parameters: Mapping[str, object],
    source: Path,
    draft: Path,
    stage: Path,
    redirected: Mapping[str, str],
) -> nbformat.NotebookNode:
    """Run the cells in a fresh kernel of this interpreter, saving the draft after each of them."""
    # Imported here because it takes a second that a mistyped command need not wait for.
    import papermill

    progress, log = draft.with_suffix(".progress"), draft.with_suffix(".log")
    surroundings = {**os.environ, **redirected, "TSV_STAGE": str(stage), "TSV_PROGRESS": str(progress)}
    # As Jupyter names a notebook to its kernel.
    surroundings["JPY_SESSION_NAME"] = str(source.resolve())
    with log.open("wb") as stderr, shown_on_terminal(progress, draft.stem):
        try:
            return _papermill(notebook, parameters, draft, _kernel_manager(surroundings, stderr))
        except papermill.PapermillExecutionError as error:
            if error.ename == InputError.__name__:
                raise InputError(error.evalue) from None
            raise NotebookError(f"{error}\nThe draft {shown(draft)} shows the whole notebook up to there.") from None
        except RuntimeError as error:
            if not str(error).startswith("Kernel d"):
                raise
            reason = f"the Python process of the notebook died ({error}), perhaps for want of memory"
            raise NotebookError(f"{shown(draft)}: {reason}; {shown(log)} may say more.") from None


def _papermill(
    notebook: nbformat.NotebookNode,
    parameters: Mapping[str, object],
    draft: Path,
    kernel: type[AsyncKernelManager],
    attempts: int = 3,
) -> nbformat.NotebookNode:
    """Execute through papermill, and anew when the kernel could not start."""
    import papermill

    nbformat.write(notebook, draft)  # type: ignore[no-untyped-call]
    options = {"progress_bar": False, "cwd": str(paths.ROOT), "coalesce_streams": True, "start_timeout": 120}
    try:
        executed: nbformat.NotebookNode = papermill.execute_notebook(
            str(draft), str(draft), dict(parameters), kernel_manager_class=kernel, **options
        )
    except RuntimeError as error:
        # Kernels that start at the same moment can draw the same port; the loser dies before its first cell.
        if attempts == 1 or not str(error).startswith(NOT_STARTED):
            raise
        return _papermill(notebook, parameters, draft, kernel, attempts - 1)
    return executed


def _kernel_manager(surroundings: Mapping[str, str], log: IO[bytes]) -> type[AsyncKernelManager]:
    """Return a manager whose kernels have an environment and a log of their own."""

    class Kernel(AsyncKernelManager):
        # The type stubs know only the synchronous method of the base class.
        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            await super().start_kernel(env=dict(surroundings), stdout=log, stderr=log, **options)

    return Kernel


def _move_into_place(stage: Path, place: Path) -> None:
    """Copy everything staged beside its destination, then rename all of it: a full disk changes nothing."""
    with ExitStack() as stack:
        for file in sorted(file for file in stage.rglob("*") if file.is_file()):
            target = place / file.relative_to(stage)
            shutil.copyfile(file, stack.enter_context(replacing(target)))


def shown(path: Path) -> str:
    """Return a path as it is named from the working directory."""
    return os.path.relpath(path)


def record(source: Path, profile_parameters: Sequence[str], seconds: float) -> None:
    """Append time and memory to the log that the README's figures come from."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    entry = {"notebook": source.stem, "parameters": list(profile_parameters), "seconds": round(seconds, 1)}
    line = json.dumps({**entry, "largest_process_mb": round(peak)})
    with (paths.build() / "runs.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")


def use_private_folders() -> None:
    """Keep Jupyter's connection files and histories inside the build folder, out of the user's home."""
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        folder = os.environ.setdefault(variable, str(paths.build() / "home" / variable))
        Path(folder).mkdir(parents=True, exist_ok=True)
