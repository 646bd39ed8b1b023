# SPDX-License-Identifier: MIT
"""The front door: what ``import tsvlib`` offers, as README and CONTRIBUTING show it."""

import inspect
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch

import tsvlib
from compendium import paths
from tsvlib import checkpoints
from tsvlib.cli import commands, frontdoor
from tsvlib.errors import InputError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """A base and two experts in the working directory, named by texts."""
    monkeypatch.chdir(tmp_path)
    base, experts = small_models.write(Path("models"))
    return str(base), [str(expert) for expert in experts[:2]]


def blocks(page: str) -> list[str]:
    """Return the Python on a page of the checkout."""
    return re.findall(r"```python\n(.*?)```", (paths.ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_of_the_readme_runs(files: tuple[str, list[str]]) -> None:
    base, experts = files
    for name, file in {"base": base, "cars": experts[0], "svhn": experts[1]}.items():
        Path(f"{name}.safetensors").write_bytes(Path(file).read_bytes())
    (block,) = blocks("README.md")
    names: dict[str, object] = {}
    exec(block, names)
    assert checkpoints.recipe(Path("merged.safetensors"))["arguments"]["method"] == "tsv-m"
    assert checkpoints.recipe(Path("cars.tsvc.safetensors"))["arguments"]["rank"] == "1/8"
    assert len(names["sharing"]) > 0  # type: ignore[arg-type]


def test_the_method_of_the_contributors_guide_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsvlib.methods.METHODS", dict(tsvlib.METHODS))
    (block,) = blocks("CONTRIBUTING.md")
    names: dict[str, object] = {}
    exec(block, names)
    assert len(block.strip().splitlines()) <= 10
    vectors = [{"w": torch.tensor(values)} for values in ([1.0, 5.0], [2.0, 3.0], [9.0, 4.0], [0.0, 0.0])]
    assert tsvlib.merged_update(vectors, "root-mean")["w"].tolist() == [6.0, 6.0]


def test_import_is_quick_because_torch_waits() -> None:
    code = "import sys, tsvlib; dir(tsvlib), tsvlib.merge; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_offered_is_there_and_what_is_not_is_told() -> None:
    for name in tsvlib.__all__:
        assert getattr(tsvlib, name) is not None
        assert name in dir(tsvlib)
    with pytest.raises(AttributeError, match=r"module 'tsvlib' has no attribute 'melt'; it offers .*, merge, "):
        tsvlib.melt  # noqa: B018


@pytest.mark.parametrize("name", ["plan", "merge", "compress", "expand", "interference", "spectra"])
def test_the_command_line_has_the_defaults_of_the_functions(name: str) -> None:
    signature = inspect.signature(getattr(frontdoor, name)).parameters
    command = commands.cli.commands[name]
    required = [word for option in command.params if option.required for word in (option.opts[0], "a.safetensors")]
    given = command.make_context(name, required).params
    shared = [each for each in signature.values() if each.kind is each.KEYWORD_ONLY and each.name in given]
    defaults = {
        each.name: each.default for each in (*shared, *inspect.signature(frontdoor.session_of).parameters.values())
    }
    assert {name: given[name] for name in defaults} == defaults


def test_files_in_memory_and_on_the_command_line_agree(files: tuple[str, list[str]]) -> None:
    base, experts = files
    digest = tsvlib.merge(base, experts, "m.safetensors", method="low-rank", alpha=0.5, workers=2, device="cpu")
    options = ["--base", base, *(word for expert in experts for word in ("--expert", expert))]
    options += ["--method", "low-rank", "--alpha", "0.5", "--device", "cpu"]
    assert commands.main(["merge", *options, "--out", "n.safetensors"]) == 0
    assert Path("m.safetensors").read_bytes() == Path("n.safetensors").read_bytes()
    assert checkpoints.digest(Path("n.safetensors")) == digest
    start, *ends = (checkpoints.load(Path(file)) for file in (base, *experts))
    vectors = [tsvlib.task_vector(start, end) for end in ends]
    merged = tsvlib.merged_update(vectors, "low_rank").apply(start, 0.5)
    for key, tensor in checkpoints.load(Path("m.safetensors")).items():
        assert torch.equal(tensor, merged[key]), key


def test_whole_numbers_that_agree_are_taken_in_memory_as_from_files() -> None:
    start = {"position_ids": torch.arange(4), "w": torch.zeros(3, 2)}
    end = {"position_ids": torch.arange(4), "w": torch.ones(3, 2)}
    update = tsvlib.merged_update([tsvlib.task_vector(start, end)] * 2, "weight_averaging")
    merged = update.apply(start)
    assert torch.equal(merged["position_ids"], start["position_ids"])
    assert torch.equal(merged["w"], end["w"])
    other = tsvlib.task_vector(start, end | {"position_ids": torch.arange(4) + 1})
    assert torch.equal(tsvlib.merged_update([other] * 2, "weight_averaging").apply(start)["w"], end["w"])


@pytest.mark.parametrize(
    "types", [(torch.float32, torch.bfloat16), (torch.float16, torch.float32), (torch.float32, torch.float64)]
)
def test_unlike_types_merge_in_memory_as_from_files(tmp_path: Path, types: tuple[torch.dtype, torch.dtype]) -> None:
    random = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(12, 9, generator=random).to(types[0])}]
    states += [{"w": (states[0]["w"].double() + torch.randn(12, 9, generator=random)).to(types[1])} for _ in range(2)]
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file, state in zip(files, states, strict=True):
        checkpoints.save(file, state, {})
    tsvlib.merge(files[0], files[1:], tmp_path / "m.safetensors", device="cpu")
    update = tsvlib.merged_update(tsvlib.task_vector(states[0], state) for state in states[1:])
    assert update["w"].dtype == (torch.float64 if torch.float64 in types else torch.float32)
    merged = checkpoints.load(tmp_path / "m.safetensors")["w"]
    assert merged.dtype == types[0]
    assert torch.equal(merged, update.apply(states[0])["w"])


def test_a_method_is_named_as_on_the_command_line() -> None:
    vectors = [{"w": torch.eye(3)}, {"w": torch.ones(3, 3)}]
    expected = tsvlib.merged_update(vectors, "tsv_m")["w"]
    for name in ("tsv-m", "tsv_m"):
        assert torch.equal(tsvlib.merged_update(vectors, name)["w"], expected)
    with pytest.raises(InputError, match=r"in a list, and this is one of them; write \[task_vector, ...\]"):
        inspect.unwrap(tsvlib.merged_update)(vectors[0])


def test_the_same_numbers_make_the_same_bytes_however_they_are_written(files: tuple[str, list[str]]) -> None:
    base, experts = files
    digests = {
        tsvlib.merge(base, experts, "m.safetensors", method="tsv-m", alpha=1.0),
        tsvlib.merge(base, experts, "m.safetensors", method="tsv_m", alpha=1),
        tsvlib.merge(base, experts, "m.safetensors", alpha=np.float32(1)),
    }
    assert len(digests) == 1
    for rank in (tsvlib.Rank(fraction=0.5), 0.5, "0.5"):
        digests.add(tsvlib.compress(base, experts[0], "f.safetensors", rank=rank))
    assert len(digests) == 2
    with pytest.raises(InputError, match="alpha is nan; choose a finite number"):
        tsvlib.merge(base, experts, "m.safetensors", alpha=math.nan)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_store_has_a_size(files: tuple[str, list[str]], limit: float) -> None:
    base, experts = files
    with pytest.raises(InputError, match="choose a size above zero"):
        tsvlib.merge(base, experts, "m.safetensors", store="store", store_limit=limit)


def test_tables_of_nothing_have_their_columns(tmp_path: Path) -> None:
    for name in ("base", "one", "two"):
        checkpoints.save(tmp_path / f"{name}.safetensors", {"bias": torch.zeros(3)}, {})
    base, *experts = (tmp_path / f"{name}.safetensors" for name in ("base", "one", "two"))
    place = ["key", "part", "rows", "columns"]
    assert list(tsvlib.spectra(base, experts, tmp_path / "s.csv").columns)[:5] == [*place, "expert"]
    assert list(tsvlib.interference(base, experts).columns)[-2:] == ["entrywise", "induced"]
    assert (tmp_path / "s.csv").read_text().startswith("key,part,rows,columns,expert,norm")


def test_tables_need_no_file(files: tuple[str, list[str]]) -> None:
    base, experts = files
    kept = tsvlib.interference(base, experts, "sti.csv")
    assert tsvlib.interference(base, experts).equals(kept)
    assert tsvlib.spectra(base, experts).equals(tsvlib.spectra(base, experts, "spectra.csv"))
    assert sorted(path.name for path in Path().glob("*.csv")) == ["spectra.csv", "sti.csv"]


def test_one_expert_where_a_list_belongs(files: tuple[str, list[str]]) -> None:
    base, (first, _) = files
    with pytest.raises(InputError, match="experts are named in a list, and this is one path"):
        tsvlib.merge(base, first, "m.safetensors")


def test_what_rounding_loses_is_a_warning(tmp_path: Path) -> None:
    start = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    for number, change in enumerate((0, 1e-4, 2e-4)):
        checkpoints.save(tmp_path / f"{number}.safetensors", {"w": start + change}, {})
    base, *experts = (tmp_path / f"{number}.safetensors" for number in range(3))
    with pytest.warns(UserWarning, match="rounding to bfloat16 lost .* % of the update"):
        tsvlib.merge(base, experts, tmp_path / "m.safetensors", dtype="bfloat16")
