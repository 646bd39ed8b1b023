# SPDX-License-Identifier: MIT
"""A merged model as a folder: complete or not there, and loaded by the libraries whose models were merged."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_models
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tsvlib
from compendium import paths
from tsvlib import checkpoints, files
from tsvlib.checkpoints import sidefiles
from tsvlib.cli import commands
from tsvlib.errors import InputError

STATES = [small_models.state(seed) for seed in range(3)]


def shake(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Change the weights of a model a little, as fine-tuning does."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=random))
    return model


def mean_of(states: list[dict[str, torch.Tensor]], key: str) -> torch.Tensor:
    return sum(state[key].double() for state in states) / len(states)  # type: ignore[return-value]


def averaged(base: Path, experts: list[Path], out: str, **options: Any) -> str:
    return tsvlib.merge(base, experts, out, method="weight-averaging", device="cpu", **options)


@pytest.mark.parametrize("size", ["1GB", "30KB"], ids=["single", "sharded"])
@pytest.mark.parametrize("dtype", ["base", "float16"])
def test_transformers_loads_what_was_merged_of_its_models(tmp_path: Path, size: str, dtype: str) -> None:
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

    config = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    torch.manual_seed(0)
    model = BertModel(config)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"))
    states = []
    for seed, name in enumerate(("base", "one", "two")):
        shake(model, seed).save_pretrained(tmp_path / name, max_shard_size=size)
        tokenizer.save_pretrained(tmp_path / name)
        states.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
    (tmp_path / "base" / "notes.txt").write_text("mine")
    out = tmp_path / "merged"
    averaged(tmp_path / "base", [tmp_path / "one", tmp_path / "two"], f"{out}/", dtype=dtype)
    kind = torch.float32 if dtype == "base" else torch.float16
    loaded, report = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.dtype == kind
    for key, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor.double(), mean_of(states[1:], key), rtol=1e-3, atol=1e-3)
    again = AutoTokenizer.from_pretrained(out)
    assert again("one two")["input_ids"] == tokenizer("one two")["input_ids"]
    expected = {path.name for path in (tmp_path / "base").iterdir()} - {"notes.txt"}
    assert {path.name for path in out.iterdir()} == expected
    if size == "30KB":
        index, theirs = (json.loads((tmp_path / name / checkpoint_index()).read_text()) for name in ("merged", "base"))
        assert index["weight_map"] == theirs["weight_map"]
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in loaded.state_dict().values())


def checkpoint_index() -> str:
    return "model.safetensors.index.json"


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_loads_what_was_merged_of_its_models(tmp_path: Path, name: str) -> None:
    import open_clip
    from open_clip import CLIP

    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    model = CLIP(**config)
    states = []
    for seed, folder in enumerate(("base", "one", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": {}})
        )
        states.append({key: tensor.clone() for key, tensor in shake(model, seed).state_dict().items()})
        (torch.save if name.endswith(".bin") else save_file)(states[-1], tmp_path / folder / name)
    averaged(tmp_path / "base", [tmp_path / "one", tmp_path / "two"], f"{tmp_path}/merged/")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}/merged")
    for key, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor.double(), mean_of(states[1:], key), rtol=1e-5, atol=1e-6)


def hub(folder: Path, state: dict[str, torch.Tensor], names: list[str], index: str = "") -> Path:
    """Write a model in a folder, spread over files of these names."""
    homes = {key: names[number % len(names)] for number, key in enumerate(state)}
    for name in names:
        part = {key: tensor for key, tensor in state.items() if homes[key] == name}
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            save_file(part, folder / name, metadata={"format": "pt", "part": name, "title": "base"})
        else:
            torch.save(part, folder / name)
    if index:
        notes = {"metadata": {"total_size": 1, "total_parameters": 9}, "weight_map": homes}
        (folder / index).write_text(json.dumps(notes))
    return folder


PAIR = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHAPES: dict[str, tuple[list[str], str, set[str]]] = {
    "single": (["model.safetensors"], "", {"model.safetensors"}),
    "pickle": (["pytorch_model.bin"], "", {"model.safetensors"}),
    "shards": (["b.safetensors", "sub/a.safetensors"], checkpoint_index(), {"b.safetensors", "sub/a.safetensors"}),
    "pickles": (["x.bin", "y.bin"], "pytorch_model.bin.index.json", set(PAIR)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("command", ["merge", "expand"])
def test_a_folder_has_the_files_of_the_base_and_the_tensors_of_a_single_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names, index, expected = SHAPES[shape]
    monkeypatch.chdir(tmp_path)
    base = hub(Path("base"), STATES[0], names, index)
    (base / "config.json").write_text('{"torch_dtype": "float32"}')
    for seed in (1, 2):
        save_file(STATES[seed], f"{seed}.safetensors")
    words = ["--base", "base", "--expert", "1.safetensors"]
    if command == "expand":
        assert commands.main(["compress", *words, "--out", "f.safetensors"]) == 0
        words = [*words[:2], "--factors", "f.safetensors"]
    else:
        words += ["--expert", "2.safetensors"]
    assert commands.main([command, *words, "--out", "one.safetensors"]) == 0
    capsys.readouterr()
    assert commands.main([command, *words, "--out", "new/folder/"]) == 0
    made = {path.relative_to("new/folder").as_posix() for path in Path("new/folder").rglob("*") if path.is_file()}
    assert made == expected | {"config.json"} | ({checkpoint_index()} if index else set())
    size = sum(path.stat().st_size for path in Path("new/folder").rglob("*") if path.is_file())
    assert capsys.readouterr().out.startswith(f"new/folder: {len(made)} files, {size:,} bytes, digest ")
    merged, whole = checkpoints.open_checkpoint(Path("new/folder")), load_file("one.safetensors")
    assert merged.layout.keys() == whole.keys()
    assert all(torch.equal(merged.read(key), whole[key]) for key in whole)
    assert Path("new/folder/config.json").read_bytes() == (base / "config.json").read_bytes()
    if index:
        notes = json.loads(Path("new/folder", checkpoint_index()).read_text())["metadata"]
        assert notes == {"total_size": sum(tensor.nbytes for tensor in whole.values()), "total_parameters": 9}
    # The recipe of the folder makes the folder again.
    assert commands.main([command, "--recipe", "new/folder", "--out", "again/"]) == 0
    assert capsys.readouterr().out.endswith(" These are the bytes of new/folder.\n")
    assert small_models.contents(Path("again")) == small_models.contents(Path("new/folder"))


def test_each_file_says_what_that_of_the_base_says(tmp_path: Path) -> None:
    base = hub(tmp_path / "base", STATES[0], ["b.safetensors", "a.safetensors"], checkpoint_index())
    for seed in (1, 2):
        save_file(STATES[seed], tmp_path / f"{seed}.safetensors")
    experts = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    averaged(base, experts, f"{tmp_path}/m/")
    averaged(base, experts, f"{tmp_path}/m.safetensors")
    found = {name: notes(tmp_path / name) for name in ("m/a.safetensors", "m/b.safetensors", "m.safetensors")}
    for name, entries in found.items():
        own = {} if name == "m.safetensors" else {"part": Path(name).name}
        assert {key: text for key, text in entries.items() if key not in ("recipe", "digest")} == {
            "format": "pt",
            "title": "base",
            **own,
        }
        checkpoints.verify(tmp_path / name)


def notes(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return opened.metadata()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "metadata", [None, {}, {"modelspec.title": "x"}, {"format": "flax"}, {"recipe": "r", "digest": "d"}]
)
@pytest.mark.parametrize("pickled", [False, True])
def test_a_file_carries_the_format_and_the_metadata_of_the_base(
    tmp_path: Path, metadata: dict[str, str] | None, pickled: bool
) -> None:
    for seed in range(3):
        save_file(STATES[seed], tmp_path / f"{seed}.safetensors", metadata=metadata)
    torch.save(STATES[0], tmp_path / "0.pt")
    base = tmp_path / ("0.pt" if pickled else "0.safetensors")
    averaged(base, [tmp_path / "1.safetensors", tmp_path / "2.safetensors"], f"{tmp_path}/m.safetensors")
    found = notes(tmp_path / "m.safetensors")
    own = {key: text for key, text in ({} if pickled else metadata or {}).items() if key not in ("recipe", "digest")}
    assert {key: text for key, text in found.items() if key not in ("recipe", "digest")} == {"format": "pt"} | own
    assert json.loads(found["recipe"])["command"] == "merge"
    checkpoints.verify(tmp_path / "m.safetensors")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a base in two shards and two experts."""
    monkeypatch.chdir(tmp_path)
    hub(tmp_path / "base", STATES[0], ["b.safetensors", "a.safetensors"], checkpoint_index())
    (tmp_path / "base" / "config.json").write_text("{}")
    for seed in (1, 2):
        save_file(STATES[seed], f"{seed}.safetensors")
    return tmp_path


WORDS = ["merge", "--base", "base", "--expert", "1.safetensors", "--expert", "2.safetensors", "--out"]


@pytest.mark.parametrize("name", ["empty", "empty/", "./empty//", "link", "link/"])
def test_an_empty_folder_is_filled_whether_named_with_a_slash_or_not(work: Path, name: str) -> None:
    (work / "empty").mkdir()
    (work / "link").symlink_to("empty")
    assert commands.main([*WORDS, name]) == 0
    assert (work / "link").is_symlink()
    assert len(list((work / "empty").iterdir())) == 4
    assert not list(work.glob(".*"))


def filled(work: Path) -> str:
    (work / "full").mkdir()
    (work / "full" / "mine").write_text("mine")
    return "full/"


def a_file(work: Path) -> str:
    (work / "file").write_text("mine")
    return "file/"


def dangling(work: Path) -> str:
    (work / "link").symlink_to("nowhere")
    return "link/"


def loop(work: Path) -> str:
    (work / "loop").symlink_to("loop")
    return "loop/"


def pipe(work: Path) -> str:
    os.mkfifo(work / "pipe")
    return "pipe/"


TROUBLES: dict[str, tuple[Callable[[Path], str], str]] = {
    "filled": (filled, "full: the folder cannot be written: it is not empty; name a new folder, such as one in it"),
    "base": (lambda work: "base/", "base: the folder cannot be written: it is not empty"),
    "a file": (a_file, "file: the folder cannot be written: a file of that name is in the way; choose another name"),
    "a pipe": (pipe, "pipe: the folder cannot be written: a pipe of that name is in the way"),
    "dangling": (dangling, "link: the link link leads to nothing; remove it or choose another name"),
    "loop": (loop, "loop: the folder cannot be written: a link in the path leads back to itself"),
    "long": (lambda work: "n" * 300 + "/", "the name is longer than the file system allows; choose a shorter one"),
    "in a file": (lambda work: a_file(work) + "m/", "a part of the path is a file, not a folder"),
    "an input": (lambda work: "1.safetensors/", "1.safetensors: the folder cannot be written: a file of that name"),
    "a hub's name": (lambda work: "base/model.safetensors/", "would be read in place of it or as a part of it"),
    "nothing": (lambda work: "", "a folder of that name is in the way; choose another name"),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_nothing_that_is_there_is_lost(work: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, sentence = TROUBLES[kind]
    name = make(work)
    before = sorted(work.rglob("*"))
    assert commands.main([*WORDS, name]) == 1
    said = capsys.readouterr().err.splitlines()
    assert sentence in said[-1]
    assert said[-1].endswith(".")
    # Told before any work.
    assert not [line for line in said if "inputs" in line]
    assert sorted(work.rglob("*")) == before


def test_the_working_folder_and_a_mount_stay(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "empty").mkdir()
    monkeypatch.chdir(work / "empty")
    for out in (".", "./", str(work / "empty") + "/"):
        with pytest.raises(InputError, match="it is the working folder; name a new folder, such as one in it"):
            averaged(work / "base", [work / "1.safetensors", work / "2.safetensors"], out)
    monkeypatch.chdir(work)
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "empty")
    with pytest.raises(InputError, match="a file system is mounted there; name a new folder, such as one in it"):
        averaged(work / "base", [work / "1.safetensors", work / "2.safetensors"], "empty/")


def test_factors_are_one_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compress = ["compress", "--base", "base", "--expert", "1.safetensors", "--out", "f/"]
    assert commands.main(compress) == 1
    assert "choose a name that ends in .safetensors" in capsys.readouterr().err
    assert not (work / "f").exists()


STOPPED = """
import os, signal, sys
from tsvlib import checkpoints
from tsvlib.checkpoints import folders, sidefiles, writing
from tsvlib.cli import commands
signal.signal(signal.SIGINT, signal.default_int_handler)
owner, name, count, number = eval(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole, calls = getattr(owner, name), []
def counted(*arguments, **named):
    calls.append(name)
    if len(calls) == count:
        os.kill(os.getpid(), number)
    return whole(*arguments, **named)
setattr(owner, name, counted)
raise SystemExit(commands.main(sys.argv[5:]))
"""
MOMENTS = [("writing", "_append", 3), ("folders", "writer", 2), ("sidefiles", "copy", 1), ("os", "fsync", 6)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: "-".join(map(str, moment)))
def test_no_half_made_folder_whenever_it_ends(work: Path, moment: tuple[str, str, int], number: signal.Signals) -> None:
    before = sorted(work.rglob("*"))
    command = [sys.executable, "-c", STOPPED, *map(str, moment), str(int(number)), *WORDS, "new/m/"]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if number == signal.SIGKILL:
        assert done.returncode == -signal.SIGKILL
        assert not (work / "new" / "m").exists()
        # What a killed writer leaves goes with the next one.
        assert len(list((work / "new").iterdir())) == 1
        assert commands.main([*WORDS, "new/m/"]) == 0
        assert [path.name for path in (work / "new").iterdir()] == ["m"]
        return
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1].endswith("nothing was written, and the same command starts again.")
    assert sorted(work.rglob("*")) == before


def test_a_full_disk_leaves_no_folder(small_disk: Path) -> None:
    def filled_up() -> None:
        with files.replacing_folder(small_disk / "m") as temporary:
            (temporary / "first").write_bytes(bytes(20_000))
            (temporary / "second").write_bytes(bytes(1_000_000))

    with pytest.raises(InputError, match="m: the folder cannot be written: the disk is full"):
        filled_up()
    assert not list(small_disk.iterdir())


def test_somebody_who_fills_the_folder_meanwhile_keeps_it(tmp_path: Path) -> None:
    def filled_meanwhile() -> None:
        with files.replacing_folder(tmp_path / "m") as temporary:
            (temporary / "ours").write_text("ours")
            (tmp_path / "m").mkdir()
            (tmp_path / "m" / "theirs").write_text("theirs")

    with pytest.raises(InputError, match="m: the folder cannot be written: it is not empty"):
        filled_meanwhile()
    assert small_models.contents(tmp_path).keys() == {"m/theirs"}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_two_writers_of_one_folder_leave_each_other_alone(tmp_path: Path) -> None:
    def two() -> None:
        with files.replacing_folder(tmp_path / "m") as slow:
            (slow / "slow").write_text("slow")
            with files.replacing_folder(tmp_path / "m") as quick:
                (quick / "quick").write_text("quick")
            assert (slow / "slow").exists()

    with pytest.raises(InputError, match="it is not empty"):
        two()
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "quick"]


def test_folders_of_the_user_are_no_leftovers(tmp_path: Path) -> None:
    for name in (".m.mine.part", ".m.01234567.part.bak", ".other.01234567.part"):
        (tmp_path / name).mkdir()
    (tmp_path / ".m.89abcdef.part").symlink_to(".m.mine.part")
    (tmp_path / ".m.mine.part" / "mine").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / ".m.01234567.part").mkdir()
    (tmp_path / ".m.01234567.part" / "half").write_text("half")
    with files.replacing_folder(tmp_path / "m"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [*before, "m"]
    assert (tmp_path / ".m.mine.part" / "mine").exists()


BESIDE = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "vocab.txt", "merges.txt"]
BESIDE += ["special_tokens_map.json", "spiece.model", "modeling_own.py", "LICENSE.txt", "1_Pooling/config.json"]
BESIDE += ["chat_template.jinja", "preprocessor_config.json", "modules.json", "config_sentence_transformers.json"]
NOT_BESIDE = ["README.md", "notes.txt", "optimizer.pt", "model.safetensors", ".gitattributes", "trainer_state.json"]
NOT_BESIDE += ["runs/log.json", "model.safetensors.index.json", "pytorch_model.bin", "own.py", "1_Pooling/a/b.json"]


def test_what_belongs_beside_weights_is_copied_and_nothing_else(tmp_path: Path) -> None:
    for name in (*BESIDE, *NOT_BESIDE):
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / name).write_text(name)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "base" / "tokenizer_config.json").symlink_to("../secret")
    os.mkfifo(tmp_path / "base" / "added_tokens.json")
    (tmp_path / "base" / "vocab.json").symlink_to("vocab.json")
    (tmp_path / "m").mkdir()
    sidefiles.copy(tmp_path / "base", tmp_path / "m")
    assert small_models.contents(tmp_path / "m").keys() == set(BESIDE)


@pytest.mark.parametrize(
    "content", ['{"a": 1, "torch_dtype": "float32"}', '{"dtype": "float32"}', "{}", "[]", "{", '{"dtype": 1}']
)
def test_a_configuration_names_the_type_of_the_weights(tmp_path: Path, content: str) -> None:
    for name in ("base", "m"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "config.json").write_text(content)
    sidefiles.copy(tmp_path / "base", tmp_path / "m", "bfloat16")
    found = (tmp_path / "m" / "config.json").read_text()
    if '"float32"' in content:
        assert json.loads(found) == json.loads(content.replace("float32", "bfloat16"))
    else:
        assert found == content


def test_a_copy_elsewhere_gives_the_same_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands.main([*WORDS, "m/"]) == 0
    shutil.copytree(work, work.parent / "copy")
    monkeypatch.chdir(work.parent / "copy")
    assert commands.main([*WORDS, "n/"]) == 0
    assert small_models.contents(Path("n")) == small_models.contents(work / "m")
