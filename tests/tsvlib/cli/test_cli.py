# SPDX-License-Identifier: MIT
"""The command line: what it writes, what it says, how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import small_models
import torch
from safetensors.torch import load_file, save_file

from compendium import paths
from tsvlib import checkpoints, files, merging
from tsvlib.cli import commands, frontdoor, options
from tsvlib.methods import PROCESSES, UPDATES, named

COMMANDS = ["plan", "merge", "compress", "expand", "interference", "spectra"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options that name a base and three experts, as seen from the folder that they lie in."""
    monkeypatch.chdir(tmp_path)
    base, experts = small_models.write(Path("models"))
    return ["--base", str(base), *(word for expert in experts for word in ("--expert", str(expert)))]


def call(*arguments: str) -> int:
    return commands.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_a_newcomer_what_and_how(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: tsvlib {command} --base base.safetensors" in text
    for option in commands.cli.commands[command].params:
        assert isinstance(option, click.Option)
        assert option.help, option.opts


def test_help_does_not_wait_for_torch() -> None:
    told = "commands.main(['merge', '--help']); assert 'torch' not in sys.modules"
    code = f"import sys; from tsvlib.cli import commands; {told}"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_merge_as_a_process(inputs: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tsvlib", "merge", *inputs, "--out", "m.safetensors"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(paths.ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    digest = checkpoints.digest(tmp_path / "m.safetensors")
    size = (tmp_path / "m.safetensors").stat().st_size
    assert done.stdout == f"m.safetensors: {size:,} bytes, digest {digest[:12]}.\n"
    assert "3 experts, 3 task matrices" in done.stderr
    expected = small_models.merged(3, 1.0)
    for key, tensor in checkpoints.load(tmp_path / "m.safetensors").items():
        np.testing.assert_allclose(tensor.double().numpy(), expected[key], rtol=1e-4, atol=1e-5)


def test_help_tells_in_a_clause_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in commands.cli.commands.items():
        clause = (command.help or "").partition("\n")[0]
        assert any(line.split()[0] == name and clause[:30] in line for line in lines if line.strip()), name
        assert clause.endswith(".")


@pytest.mark.parametrize(("listing", "rows"), [(options.METHODS, UPDATES), (options.PROCESSES, PROCESSES)])
def test_help_names_every_method(listing: str, rows: dict[str, object]) -> None:
    named = re.findall(r"[a-z0-9-]{3,}", listing)
    assert {name.replace("-", "_") for name in named} == rows.keys()


def test_the_readme_names_every_method_that_the_command_line_takes() -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*UPDATES, *PROCESSES):
        assert f"`{name.replace('_', '-')}`" in text, name


def test_what_follows_a_method_is_in_the_recipe_which_is_followed(inputs: list[str], tmp_path: Path) -> None:
    merged, again = tmp_path / "merged.safetensors", tmp_path / "again.safetensors"
    following = ["--method", "task-arithmetic", "--then", "svc", "--then", "boosting"]
    assert call("merge", *inputs, *following, "--out", str(merged)) == 0
    assert checkpoints.recipe(merged)["arguments"]["method"] == "task-arithmetic+svc+boosting"
    assert call("merge", "--recipe", str(merged), "--out", str(again)) == 0
    assert again.read_bytes() == merged.read_bytes()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--method", "svc"], "`svc` changes what another method merges, and merges nothing by itself; choose one of"),
        (["--method", "emr"], "`emr` keeps a model for each task, and merges nothing by itself; choose one of"),
        (["--method", "esm"], "`esm` merges by what is measured on inputs, which only whoever has these can give it;"),
        (["--method", "tall-mask-ties"], "`tall_mask_ties` keeps a model for each task, and merges nothing by itself"),
        (["--method", "fisher"], "`fisher` merges by what is measured on inputs, which only whoever has these can"),
        (
            ["--then", "ties"],
            "nothing named `ties` can follow a method; choose one of svc, svc-shrinking, boosting, lines",
        ),
    ],
)
def test_rows_of_another_kind_are_refused(
    inputs: list[str], words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged.safetensors"
    assert call("merge", *inputs, *words, "--out", str(out)) != 0
    assert reason in capsys.readouterr().err
    assert not out.exists()


def test_fixed_forms_write_what_they_promise(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = inputs[:4]
    assert call("plan", *inputs) == 0
    assert call("merge", *inputs, "--method", "task-arithmetic", "--alpha", "0.3", "--out", "m.safetensors") == 0
    assert call("compress", *one, "--rank", "1/2", "--dtype", "float16", "--out", "f.safetensors") == 0
    assert call("expand", *one[:2], "--factors", "f.safetensors", "--out", "e.safetensors") == 0
    assert call("interference", *inputs, "--out", "sti.csv", "--store", "store") == 0
    assert call("spectra", *inputs, "--out", "spectra.csv", "--store", "store") == 0
    told = capsys.readouterr().out
    assert "experts     3\n" in told
    for name in ("m.safetensors", "f.safetensors", "e.safetensors"):
        assert f"{name}: {Path(name).stat().st_size:,} bytes, digest {checkpoints.digest(Path(name))[:12]}.\n" in told
    for text in ("Interference of 3 task matrices in sti.csv", "Spectra of 6 task matrices in spectra.csv"):
        name = Path(text.split()[-1])
        assert f"{text}: {name.stat().st_size:,} bytes, SHA-256 {files.sha256(name)[:12]}.\n" in told
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"models", "m.safetensors", "f.safetensors", "e.safetensors", "sti.csv", "spectra.csv", "store"}
    start, merged = small_models.state(0), checkpoints.load(tmp_path / "m.safetensors")
    total = sum(small_models.state(seed)["visual.proj"] - start["visual.proj"] for seed in (1, 2, 3))
    torch.testing.assert_close(merged["visual.proj"], start["visual.proj"] + 0.3 * total)


def test_a_store_is_listed_and_cleared(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("merge", *inputs, "--out", "m.safetensors", "--store", "store", "--store-limit", "1") == 0
    capsys.readouterr()
    assert call("spectra", "--store", "store", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7  # two matrices of three experts, and the sum
    assert lines[-1].startswith("store: 6 decompositions")
    assert call("spectra", "--store", "store", "--clear") == 0
    assert "MB freed" in capsys.readouterr().out
    assert not list(Path("store").glob("*.safetensors"))
    for name in ("mistyped", "m.safetensors"):
        assert call("spectra", "--store", name, "--list") == 1
        assert f"{name}: there is no folder of that name; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "key", "shape"), [("--split-qkv", "attn.qkv.weight", (24, 8)), ("--convolutions", "proj.weight", (8, 6))]
)
def test_an_option_without_effect_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    key: str,
    shape: tuple[int, int],
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["base.safetensors", "one.safetensors", "two.safetensors"]
    for seed, file in enumerate(files):
        save_file({key: random(*shape, seed=seed)}, file)
    named = ("--base", files[0], "--expert", files[1], "--expert", files[2], option)
    assert call("plan", *named) == 0
    assert f"note        {option} changes nothing: no tensor that is merged " in capsys.readouterr().out
    assert call("merge", *named, "--out", "merged.safetensors") == 0
    assert f"{option} changes nothing: no tensor that is merged " in capsys.readouterr().err


def test_options_with_an_effect_are_not_mentioned(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", *inputs, "--split-qkv", "--convolutions") == 0
    assert "changes nothing" not in capsys.readouterr().out
    assert call("plan", *inputs, "--split-qkv", "--leave-out", "*in_proj_weight") == 0
    assert "--split-qkv changes nothing" in capsys.readouterr().out


@pytest.fixture
def made(inputs: list[str]) -> list[str]:
    """The options of ``inputs``, whose folder now has a file of each command that writes weights."""
    one = inputs[:4]
    settings = ("--method", "low-rank", "--alpha", "0.7", "--convolutions", "--device", "cpu")
    assert call("merge", *inputs, *settings, "--out", "merge.safetensors") == 0
    settings = ("--rank", "3", "--dtype", "bfloat16", "--split-qkv", "--device", "cpu")
    assert call("compress", *one, *settings, "--out", "compress.safetensors") == 0
    settings = ("--factors", "compress.safetensors", "--alpha", "0.5", "--dtype", "float64", "--device", "cpu")
    assert call("expand", *one[:2], *settings, "--out", "expand.safetensors") == 0
    return inputs


@pytest.mark.parametrize("command", ["merge", "compress", "expand"])
def test_a_recipe_makes_the_same_bytes(made: list[str], command: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    again = ("--recipe", f"{command}.safetensors", "--out", "again.safetensors")
    assert call(command, *again, "--workers", "3", "--store", "store") == 0
    assert Path("again.safetensors").read_bytes() == Path(f"{command}.safetensors").read_bytes()
    assert capsys.readouterr().out.endswith(f" These are the bytes of {command}.safetensors.\n")


def test_a_store_that_served_other_work_changes_no_byte(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        save_file({"w": random(120, 90, seed=seed)}, f"wide{seed}.safetensors")
    three = ["--base", "wide0.safetensors", "--expert", "wide1.safetensors", "--expert", "wide2.safetensors"]
    # A GPU's last bits depend on how many matrices it takes at once.
    cpu = ("--device", "cpu")
    assert call("merge", *three, *cpu, "--out", "without.safetensors") == 0
    longer = ("compress", *three[:4], *cpu, "--rank", "80", "--out", "f.safetensors", "--store", "store")
    assert call(*longer) == 0
    assert call("merge", *three, *cpu, "--out", "with.safetensors", "--store", "store") == 0
    assert Path("with.safetensors").read_bytes() == Path("without.safetensors").read_bytes()
    assert call("merge", "--recipe", "without.safetensors", "--out", "again.safetensors", "--store", "store") == 0
    assert capsys.readouterr().out.endswith(" These are the bytes of without.safetensors.\n")


def random(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def wrote(base: torch.Tensor, *experts: torch.Tensor, key: str = "w") -> list[str]:
    """Write one-tensor checkpoints and return the options that name them."""
    options = []
    for number, tensor in enumerate((base, *experts)):
        save_file({key: tensor}, f"one{number}.safetensors")
        options += ["--expert" if number else "--base", f"one{number}.safetensors"]
    return options


@pytest.mark.parametrize("method", ["tsv-m", "weight-averaging", "ties", "iso-c"])
def test_float64_is_merged_in_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.chdir(tmp_path)
    base = random(32, 24, seed=0, dtype=torch.float64)
    experts = [base + random(32, 24, seed=seed, scale=1e-7, dtype=torch.float64) for seed in (1, 2)]
    assert call("merge", *wrote(base, *experts), "--method", method, "--out", "m.safetensors") == 0
    changes = [{"w": expert - base} for expert in experts]
    expected = base + merging.merged_update(changes, named(method))["w"]
    torch.testing.assert_close(load_file("m.safetensors")["w"], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("command", ["merge", "expand"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_all_weights_are_written_in_the_type_asked_for(made: list[str], command: str, dtype: str) -> None:
    inputs = made if command == "merge" else [*made[:2], "--factors", "compress.safetensors"]
    assert call(command, *inputs, "--dtype", dtype, "--out", "typed.safetensors") == 0
    assert call(command, *inputs, "--out", "plain.safetensors") == 0
    found, expected = load_file("typed.safetensors"), load_file("plain.safetensors")
    whole_numbers = {key for key, tensor in expected.items() if not tensor.is_floating_point()}
    assert whole_numbers
    for key, tensor in found.items():
        kind = expected[key].dtype if key in whole_numbers else getattr(torch, dtype)
        assert tensor.dtype == kind
        torch.testing.assert_close(tensor.double(), expected[key].double(), rtol=8e-3, atol=1e-6)


def test_an_unknown_type_is_refused(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("merge", *inputs, "--dtype", "int8", "--out", "m.safetensors") == 1
    assert "`int8` is no type to write numbers in; choose one of float64, float32" in capsys.readouterr().err


def test_an_overflow_is_refused_with_key_and_value_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base, expert = torch.full((8,), 60000.0).half(), torch.full((8,), 65000.0).half()
    merge = ("merge", *wrote(base, expert, expert, key="scale"), "--method", "task-arithmetic")
    before = small_models.contents(tmp_path)
    assert call(*merge, "--out", "m.safetensors") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(
        "`scale` would reach 7e+04, and float16 ends at 6.55e+04; choose a smaller alpha or the dtype"
    )
    assert small_models.contents(tmp_path) == before
    assert call(*merge, "--out", "m.safetensors", "--dtype", "float32") == 0
    assert load_file("m.safetensors")["scale"].tolist() == [69984.0] * 8


def test_an_update_that_the_type_of_the_base_cannot_hold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = random(40, 30, seed=0).bfloat16()
    experts = [base.float() + random(40, 30, seed=seed, scale=1e-4) for seed in (1, 2)]
    options = wrote(base.float(), *experts)
    assert call("merge", *options, "--out", "m.safetensors", "--dtype", "bfloat16") == 0
    told = capsys.readouterr().out
    merged = load_file("m.safetensors")["w"].double() - base.double()
    exact = merging.merged_update([{"w": expert - base} for expert in experts], named("tsv_m"))["w"].double()
    share = 100 * float((merged - exact).norm() / exact.norm())
    assert f". But rounding to bfloat16 lost {share:.0f} % of the update; a wider dtype keeps it.\n" in told
    assert call("merge", *options, "--out", "m.safetensors") == 0
    assert "lost" not in capsys.readouterr().out


def test_exploded_weights_are_merged_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = wrote(torch.zeros(64, 48), *(random(64, 48, seed=seed, scale=1e20) for seed in (1, 2)))
    assert call("merge", *options, "--out", "m.safetensors") == 0
    changes = [{"w": random(64, 48, seed=seed, scale=1e20).double()} for seed in (1, 2)]
    expected = merging.merged_update(changes, named("tsv_m"))["w"]
    assert (load_file("m.safetensors")["w"].double() - expected).norm() <= 1e-4 * expected.norm()
    capsys.readouterr()
    for method in ("tsv-m", "task-arithmetic"):
        options = wrote(torch.zeros(4, 4), torch.full((4, 4), 3e38), torch.full((4, 4), 3e38))
        assert call("merge", *options, "--method", method, "--out", "n.safetensors") == 1
        assert "`w`: the weights have exploded, and what follows is beyond what float32" in capsys.readouterr().err
    options = wrote(torch.full((4, 4), -3e38), *[torch.full((4, 4), 3e38)] * 2)
    assert call("merge", *options, "--out", "n.safetensors") == 1
    assert "`w` of one1.safetensors differs from the base by more than float32 can hold" in capsys.readouterr().err


def test_a_recipe_notices_a_changed_input(made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = [Path(f"{command}.safetensors") for command in ("merge", "compress", "expand")]
    wrong = {
        Path("models/expert1.safetensors"): checkpoints.load(Path("models/expert3.safetensors")),
        Path("models/base.safetensors"): small_models.state(9),
    }
    # The factors of another rank are as sound as those that the recipe names.
    assert call("compress", *made[:4], "--rank", "2", "--out", "other.safetensors") == 0
    cases = [(recipe, changed) for recipe in recipes for changed in wrong if "expand" not in recipe.name]
    for recipe, changed in [*cases, (recipes[2], Path("models/base.safetensors")), (recipes[2], recipes[1])]:
        content = changed.read_bytes()
        if changed in wrong:
            checkpoints.save(changed, wrong[changed], {})
        else:
            changed.write_bytes(Path("other.safetensors").read_bytes())
        before = small_models.contents(tmp_path)
        assert call(recipe.stem, "--recipe", str(recipe), "--out", "again.safetensors") == 1
        *_, said = capsys.readouterr().err.splitlines()
        assert said.startswith(f"{changed}: the file is not the one that the recipe names; restore it, or name its")
        assert small_models.contents(tmp_path) == before
        changed.write_bytes(content)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("merge", {"alpha": "0.3"}),
        ("merge", {"method": "ties", "dtype": "float64"}),
        ("merge", {"expert": "models/expert2.safetensors"}),
        ("compress", {"rank": "2"}),
        ("merge", {"no-split-qkv": "", "no-convolutions": ""}),
        ("compress", {"base": "copy.safetensors", "dtype": "float32"}),
        ("expand", {"alpha": "1.0"}),
    ],
)
def test_what_is_given_overrides_a_recipe(
    made: list[str], command: str, options: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("copy.safetensors").write_bytes(Path("models/base.safetensors").read_bytes())
    given = [word for name, value in options.items() for word in (f"--{name}", value) if word]
    given *= 2 if "expert" in options else 1
    assert call(command, "--recipe", f"{command}.safetensors", "--out", "again.safetensors", *given) == 0
    assert f" {command}.safetensors has other bytes; other settings," in capsys.readouterr().out
    old, new = (checkpoints.recipe(Path(f"{name}.safetensors")) for name in (command, "again"))
    settings = {name: value for name, value in options.items() if name not in ("base", "expert")}
    expected = {name: float(value) if name == "alpha" else value for name, value in settings.items() if value}
    expected |= {name[3:].replace("-", "_"): False for name, value in settings.items() if not value}
    assert new["arguments"] == old["arguments"] | expected
    # A copy of the same content is called as the recipe calls it.
    experts = 2 * old["inputs"]["expert"][1:2] if "expert" in options else old["inputs"].get("expert")
    assert new["inputs"].get("expert") == experts
    assert new["inputs"]["base"] == old["inputs"]["base"]


def test_a_recipe_tells_when_its_bytes_cannot_be_had(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    merged = Path("merge.safetensors")
    recipe = checkpoints.recipe(merged)
    checkpoints.save(merged, checkpoints.load(merged), recipe | {"versions": recipe["versions"] | {"torch": "1.0"}})
    assert call("merge", "--recipe", str(merged), "--out", "again.safetensors") == 0
    assert " merge.safetensors has other bytes; other settings, versions," in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which would serve")
def test_a_recipe_is_followed_on_the_device_that_it_names(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    merged = Path("merge.safetensors")
    recipe = checkpoints.recipe(merged)
    checkpoints.save(merged, checkpoints.load(merged), recipe | {"arguments": recipe["arguments"] | {"device": "cuda"}})
    again = ("merge", "--recipe", str(merged), "--out", "again.safetensors")
    assert call(*again) == 1
    assert "has no cuda device; choose the device cpu" in capsys.readouterr().err
    assert call(*again, "--device", "cpu") == 0


def test_a_recipe_of_another_command_is_refused(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("merge", *inputs, "--out", "m.safetensors") == 0
    assert call("compress", "--recipe", "m.safetensors", "--out", "f.safetensors") == 1
    assert "it was not made by `compress`" in capsys.readouterr().err
    assert call("merge", "--recipe", "models/base.safetensors", "--out", "f.safetensors") == 1


WRONG = {
    2: [
        ["merge", "--out", "m"],
        ["merge", "--alfa", "1"],
        ["merge", "--alpha", "much"],
        ["melt"],
        [],
        ["spectra", "--list"],
        ["spectra", "--store", "store", "--list", "--clear"],
        ["compress", "--base", "b", "--expert", "e", "--expert", "f", "--out", "o"],
        ["merge", "--base", "b", "--expert", "e", "--out", "o", "--workers", "0"],
        ["merge", "--base", "b", "--expert", "e", "--out", "o", "--store-limit", "0"],
    ],
    1: [
        ["merge", "--base", "nowhere.safetensors", "--expert", "e.safetensors", "--out", "o"],
        ["merge", "--base", "b", "--expert", "e", "--out", "o", "--device", "tpu"],
        ["plan", "--base", "models/base.safetensors", "--expert", "models/expert1.safetensors"],
    ],
}


@pytest.mark.parametrize(("code", "arguments"), [(code, each) for code, every in WRONG.items() for each in every])
def test_mistakes_get_a_sentence_and_change_nothing(
    inputs: list[str], tmp_path: Path, code: int, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = small_models.contents(tmp_path)
    assert call(*arguments) == code
    said = capsys.readouterr().err
    assert said.strip()
    assert "Traceback" not in said
    assert code == 2 or said.count("\n") == 1
    assert small_models.contents(tmp_path) == before


def test_an_error_of_the_system_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device", "sti.csv")

    monkeypatch.setattr(frontdoor, "plan", full)
    assert call("plan", "--base", "b", "--expert", "e") == 1
    assert capsys.readouterr().err == "sti.csv: the disk is full; free some space and run the command again.\n"


def test_a_reader_that_has_gone_ends_a_command_without_a_word(tmp_path: Path) -> None:
    base, experts = small_models.write(tmp_path)
    words = ["plan", "--base", base, *(word for expert in experts for word in ("--expert", expert))]
    command = [sys.executable, "-m", "tsvlib", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)
