# SPDX-License-Identifier: MIT
"""An output takes the place of a regular file or of nothing, and of nothing that the user may still need."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models
import torch
from foreign import HUB
from safetensors.torch import save_file

from tsvlib import checkpoints
from tsvlib.cli import commands, outputs, workflows
from tsvlib.cli.workflows import Inputs, Session
from tsvlib.errors import InputError

COMMANDS = ["merge", "compress", "expand", "interference", "spectra"]
WRITABLE = [name for name in HUB if name.endswith(".safetensors")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``models`` and a TSV-C file of the first expert."""
    folder = tmp_path_factory.mktemp("made")
    base, experts = small_models.write(folder / "models")
    workflows.compress(Inputs(base, experts[:1]), folder / "factors.safetensors", "1/2", "float32", Session())
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the same, which is the working folder."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "work"))
    return tmp_path / "work"


def words(command: str, base: str = "models/base.safetensors") -> list[str]:
    """Return a command line that lacks nothing but --out."""
    experts = {"merge": [1, 2, 3], "expand": []}.get(command, [1] if command == "compress" else [1, 2])
    named = [word for number in experts for word in ("--expert", f"models/expert{number}.safetensors")]
    return [command, "--base", base, *named, *(["--factors", "factors.safetensors"] if command == "expand" else [])]


def tree(folder: Path) -> dict[str, object]:
    """Return what a folder holds: kinds, inodes, where links lead and what files contain."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else path.readlink() if path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_ino, content)
    return found


def refused(folder: Path, sentence: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a command says one sentence before any work, and that everything is what it was."""
    before = tree(folder)
    capsys.readouterr()
    assert commands.main(arguments) == 1
    said = capsys.readouterr().err.splitlines()
    assert re.search(sentence, said[-1]), said[-1]
    assert said[-1].endswith(".")
    # No bar has been shown, and before the estimate there is nothing to do.
    assert [line for line in said[:-1] if "task matrices" not in line] == []
    assert tree(folder) == before


def suffix(command: str) -> str:
    return ".csv" if command in ("interference", "spectra") else ".safetensors"


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/null"),
    "leads back to itself": lambda path: path.symlink_to(path.name),
    "leads to nothing": lambda path: path.symlink_to(f"missing{path.suffix}"),
    "leads to nothing; ": lambda path: path.symlink_to(f"missing/missing{path.suffix}"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_stays(folder: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / f"out{suffix(command)}"
    SPECIAL[kind](out)
    refused(folder, kind, [*words(command), "--out", str(out)], capsys)
    (folder / "link").symlink_to(out.name)
    refused(folder, kind, [*words(command), "--out", "link"], capsys)


def test_a_full_folder_and_a_folder_behind_a_broken_link_stay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(folder, "it is not empty; name a new folder", [*words("merge"), "--out", "models"], capsys)
    refused(folder, "a folder of that name is in the way", [*words("compress"), "--out", "models"], capsys)
    (folder / "link").symlink_to("missing")
    refused(folder, "link leads to nothing", [*words("merge"), "--out", "link/m.safetensors"], capsys)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("missing", [False, True])
def test_a_name_that_is_too_long(folder: Path, command: str, missing: bool, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("new/" if missing else "") + "n" * 300 + suffix(command)
    refused(folder, "the name is longer than the file system allows", [*words(command), "--out", out], capsys)


ALIASES: dict[str, Callable[[Path, Path], object]] = {
    "itself": lambda alias, file: None,
    "symbolic link": lambda alias, file: alias.symlink_to(file),
    "hard link": lambda alias, file: os.link(file, alias),
    "link to a link": lambda alias, file: (alias.with_name("l").symlink_to(file), alias.symlink_to("l")),
    "link to the folder": lambda alias, file: alias.symlink_to(file.parent),
}


def alias(kind: str, folder: Path, file: Path) -> str:
    """Make another name of a file and return it."""
    name = folder / f"alias{file.suffix}"
    ALIASES[kind](name, file)
    return str({"itself": file, "link to the folder": name / file.name}.get(kind, name))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ALIASES)
def test_no_input_is_lost_by_any_name(
    folder: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [word for word in words(command) if word.endswith(".safetensors")]
    for name in names:
        out = alias(kind, folder, folder / name)
        refused(folder, "one of the files to read, which would be lost", [*words(command), "--out", out], capsys)
        (folder / "alias.safetensors").unlink(missing_ok=True)
        (folder / "l").unlink(missing_ok=True)


def test_a_link_as_input_protects_what_it_leads_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link.safetensors").symlink_to("models/base.safetensors")
    for out in ("link.safetensors", "models/base.safetensors", "missing/../models/base.safetensors"):
        arguments = [*words("merge", "link.safetensors"), "--out", out]
        refused(folder, "one of the files to read", arguments, capsys)


@pytest.mark.parametrize("command", ["merge", "compress", "expand"])
@pytest.mark.parametrize("kind", ALIASES)
def test_the_file_whose_recipe_is_followed_is_not_lost(
    folder: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main([*words(command), "--out", "recipe.safetensors"]) == 0
    out = alias(kind, folder, folder / "recipe.safetensors")
    refused(folder, "one of the files to read", [command, "--recipe", "recipe.safetensors", "--out", out], capsys)


def test_another_mount_is_another_name(folder: Path) -> None:
    mounted = folder / "mounted"
    mounted.mkdir()
    try:
        subprocess.run(["mount", "--bind", "models", str(mounted)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        with pytest.raises(InputError, match="one of the files to read"):
            outputs.check(mounted / "base.safetensors", outputs.WEIGHTS, [folder / "models/base.safetensors"])
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_hard_link_to_no_input_is_replaced_and_the_other_name_keeps_the_content(folder: Path) -> None:
    (folder / "kept.safetensors").write_bytes(b"earlier")
    os.link("kept.safetensors", "m.safetensors")
    assert commands.main([*words("merge"), "--out", "m.safetensors"]) == 0
    assert (folder / "kept.safetensors").read_bytes() == b"earlier"
    checkpoints.verify(folder / "m.safetensors")


def test_a_link_to_a_file_is_written_through(folder: Path) -> None:
    (folder / "kept.safetensors").write_bytes(b"earlier")
    (folder / "m.safetensors").symlink_to("kept.safetensors")
    assert commands.main([*words("merge"), "--out", "m.safetensors"]) == 0
    assert (folder / "m.safetensors").is_symlink()
    checkpoints.verify(folder / "kept.safetensors")


def hub(folder: Path, name: str) -> Path:
    """Put the base into a folder under the name of a model hub, in two shards if that is an index."""
    folder.mkdir()
    state = small_models.state(0)
    save = torch.save if ".bin" in name else save_file
    if not name.endswith(".index.json"):
        save(state, folder / name)
        return folder
    stem, kind = name.split(".")[:2]
    homes = {key: f"{stem}-{number % 2}.{kind}" for number, key in enumerate(state)}
    for shard in set(homes.values()):
        save({key: tensor for key, tensor in state.items() if homes[key] == shard}, folder / shard)
    (folder / name).write_text(json.dumps({"weight_map": homes}))
    return folder


CLASHES = [
    (existing, new) for existing in HUB for new in (*WRITABLE, "MODEL.SAFETENSORS") if new.casefold() != existing
]


@pytest.mark.parametrize(("existing", "new"), CLASHES)
@pytest.mark.parametrize("base", ["base", "models/base.safetensors"])
def test_no_model_is_shadowed(
    folder: Path, base: str, existing: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub(folder / "base", existing)
    (folder / "link").symlink_to("base")
    for out in (f"base/{new}", f"link/{new}"):
        refused(folder, f"beside .*{existing} would be read in place", [*words("merge", base), "--out", out], capsys)


def test_an_index_is_not_lost_either(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = hub(folder / "base", "model.safetensors.index.json")
    os.link(base / "model.safetensors.index.json", folder / "m.safetensors")
    refused(folder, "one of the files to read", [*words("merge", "base"), "--out", "m.safetensors"], capsys)


def test_a_folder_that_is_made_shadows_no_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub(folder / "base", "pytorch_model.bin")
    out = "base/model.safetensors/new/m.safetensors"
    refused(folder, "would be read in place of it", [*words("merge", "base"), "--out", out], capsys)


@pytest.mark.parametrize("name", WRITABLE)
def test_names_that_folders_are_read_by_are_not_given_beside_an_input(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "alone").mkdir()
    (folder / "models/base.safetensors").rename("alone/base.safetensors")
    (folder / "link.safetensors").symlink_to("alone/base.safetensors")
    for base in ("alone/base.safetensors", "link.safetensors"):
        refused(folder, "would be read", [*words("merge", base), "--out", f"alone/{name}"], capsys)


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("spelling", ["model-0.safetensors", "Model-0.Safetensors", "open_clip_model.safetensors"])
def test_no_sharded_model_is_completed_or_changed(
    folder: Path, present: bool, spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = hub(folder / "other", "model.safetensors.index.json")
    # An index of any name, whose shards may be spelt in a roundabout way.
    index = other / "old.safetensors.index.json"
    (other / "model.safetensors.index.json").rename(index)
    index.write_text(index.read_text().replace('"model-', '"./model-'))
    if not present:
        (other / "model-0.safetensors").unlink()
    refused(folder, "would be read", [*words("merge"), "--out", f"other/{spelling}"], capsys)


def test_what_lies_beside_a_model_and_is_no_index_is_nobodys_hindrance(folder: Path) -> None:
    other = hub(folder / "other", "model.safetensors")
    (other / "broken.index.json").write_text("{")
    (other / "empty.index.json").symlink_to("missing")
    os.mkfifo(other / "pipe.index.json")
    for out in ("other/merged.safetensors", "new/model.safetensors", "new/model.safetensors"):
        assert commands.main([*words("merge"), "--out", out]) == 0
        checkpoints.verify(folder / out)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name",
    ["m", "m.pt", "m.pth", "m.bin", "m.ckpt", "m.gguf", "m.npz", "m.index.json", ".safetensors", "m.safetensors.bak"],
)
def test_a_name_promises_what_the_file_is(
    folder: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(folder, rf"choose a name that ends in {suffix(command)}\.", [*words(command), "--out", name], capsys)
    real = folder / name
    real.write_bytes(b"earlier")
    (folder / f"link{suffix(command)}").symlink_to(name)
    arguments = [*words(command), "--out", f"link{suffix(command)}"]
    refused(folder, rf"choose a name that ends in {suffix(command)}\.", arguments, capsys)


def test_tables_and_weights_do_not_take_each_others_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        other = {".csv": ".safetensors", ".safetensors": ".csv"}[suffix(command)]
        refused(folder, "choose a name", [*words(command), "--out", f"m{other}"], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_capitals_do_not_matter(folder: Path, command: str) -> None:
    out = f"Out{suffix(command).upper()}"
    assert commands.main([*words(command), "--out", out]) == 0
    assert (folder / out).stat().st_size


@pytest.mark.parametrize(
    "out", ["store/m.safetensors", "store/sub/m.safetensors", "new.safetensors", "link/m.safetensors"]
)
def test_the_folder_of_the_store_is_no_place(folder: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "store").mkdir()
    (folder / "link").symlink_to("store")
    store = "new.safetensors/store" if out.startswith("new") else "store"
    refused(folder, "is for decompositions", [*words("merge"), "--out", out, "--store", store], capsys)


def test_sizes_are_told_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=8_000_000))
    with pytest.raises(InputError, match=r"m\.safetensors: 48\.2 MB are needed and 8 MB are free; free some space\."):
        outputs.check(Path("m.safetensors"), outputs.WEIGHTS, [], needed=48_234_567)
    outputs.check(Path("m.safetensors"), outputs.WEIGHTS, [], needed=8_000_000)


def test_a_place_is_refused_before_the_inputs_of_a_recipe_are_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main([*words("merge"), "--out", "m.safetensors"]) == 0
    refused(folder, "ends in .safetensors", ["merge", "--recipe", "m.safetensors", "--out", "m.pt"], capsys)


@pytest.mark.parametrize("option", ["--base", "--expert", "--factors", "--recipe"])
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_no_command_waits_for_a_pipe(folder: Path, option: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    special = folder / "special.safetensors"
    SPECIAL[kind](special)
    command = (
        ["merge", "--recipe", ""] if option == "--recipe" else words("expand" if option == "--factors" else "merge")
    )
    command[command.index(option) + 1] = str(special)
    refused(folder, f"^{special}: this is {kind}, not a file; ", [*command, "--out", "m.safetensors"], capsys)


def test_factors_in_a_folder_are_read(folder: Path) -> None:
    (folder / "packed").mkdir()
    (folder / "factors.safetensors").rename("packed/model.safetensors")
    arguments = ["--base", "models/base.safetensors", "--factors", "packed", "--out", "m.safetensors"]
    assert commands.main(["expand", *arguments]) == 0
    checkpoints.verify(folder / "m.safetensors")
