# SPDX-License-Identifier: MIT
"""What real models hold beside weights that changed, on the command line: every command follows one rule."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import small_models
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsvlib import checkpoints, merging
from tsvlib.cli import commands
from tsvlib.methods import UPDATES, named
from tsvlib.taskvectors import task_vector

State = dict[str, Tensor]
MASK = torch.full((5, 5), -torch.inf).triu(1)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*words: object) -> int:
    return commands.main([str(word) for word in words])


def wrote(*states: State, suffix: str = ".safetensors") -> list[str]:
    """Write a base and experts and return the options that name them."""
    words = []
    for number, state in enumerate(states):
        save = save_file if suffix == ".safetensors" else torch.save
        save(state, f"{number}{suffix}")
        words += ["--expert" if number else "--base", f"{number}{suffix}"]
    return words


def weights(seed: int) -> State:
    return {key: tensor for key, tensor in small_models.state(seed).items() if tensor.is_floating_point()}


def with_buffers(seed: int) -> State:
    """Return weights, and what no two experts of a model with batch normalisation and masks agree on, or all do."""
    counted = {"bn.num_batches_tracked": torch.tensor(1000 + 7 * seed), "ids": torch.arange(3 + seed)}
    flags = {"keep": torch.tensor([seed % 2 == 0, True])}
    return weights(seed) | counted | flags | {"mask": MASK.clone(), "ignore": torch.tensor(-torch.inf)}


def merged(
    method: str = "tsv-m",
    alpha: float = 1.0,
    weight: tuple[float, ...] = (1.0, 1.0),
    made: Callable[[int], State] = weights,
) -> State:
    """Return what merging the first two experts gives in memory."""
    base = made(0)
    vectors = [w * task_vector(base, made(number)) for number, w in enumerate(weight, start=1)]
    return merging.merged_update(vectors, named(method)).apply(base, alpha)


def same(found: State, expected: State, where: State | None = None) -> bool:
    return all(torch.equal(found[key], expected[key]) for key in where or expected)


@pytest.mark.parametrize("method", sorted(UPDATES))
def test_buffers_of_any_kind_stay_as_in_the_base(method: str) -> None:
    states = [with_buffers(seed) for seed in range(3)]
    assert call("merge", *wrote(*states), "--method", method, "--device", "cpu", "--out", "m.safetensors") == 0
    found = load_file("m.safetensors")
    assert same(found, {key: tensor for key, tensor in states[0].items() if key not in weights(0)})
    assert same(found, merged(method, made=with_buffers))


def test_every_command_takes_buffers_by_the_same_rule(capsys: pytest.CaptureFixture[str]) -> None:
    states = [with_buffers(seed) for seed in range(3)]
    two = wrote(*states)
    assert call("plan", *two) == 0
    told = capsys.readouterr().out
    assert "copied      3 of whole numbers or flags, as in the base: `bn.num_batches_tracked`, `ids`, `keep`\n" in told
    assert call("compress", *two[:4], "--rank", "1.0", "--out", "f.safetensors") == 0
    assert not {"ids", "keep", "mask", "ignore"} & load_file("f.safetensors").keys()
    assert call("expand", *two[:2], "--factors", "f.safetensors", "--out", "e.safetensors") == 0
    found = load_file("e.safetensors")
    assert same(found, {key: tensor for key, tensor in states[0].items() if key not in weights(0)})
    for key in weights(0):
        torch.testing.assert_close(found[key], states[1][key])
    for command in ("interference", "spectra"):
        assert call(command, *two, "--out", "t.csv") == 0
        assert not {"ids", "keep", "bn.num_batches_tracked"} & set(pd.read_csv("t.csv").key)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_masks_are_written_in_the_type_asked_for(dtype: str) -> None:
    assert call("merge", *wrote(*map(with_buffers, range(3))), "--dtype", dtype, "--out", "m.safetensors") == 0
    found = load_file("m.safetensors")
    assert found["mask"].dtype == getattr(torch, dtype)
    assert torch.equal(found["mask"].float(), MASK)


@pytest.mark.parametrize("owner", [0, 2])
@pytest.mark.parametrize("command", ["merge", "compress", "interference", "spectra"])
def test_masks_that_somebody_changed_are_refused_before_the_work(
    owner: int, command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    states = [with_buffers(seed) for seed in range(3)]
    states[owner]["mask"][0, 1] = 0.0
    words, name = wrote(*states), "t.csv" if command in ("interference", "spectra") else "t.safetensors"
    named = [*words[:2], *words[4:]] if command == "compress" else words
    before = small_models.contents(tmp_path)
    assert call(command, *named, "--out", name) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "`mask` of " in said
    assert "holds NaN or Inf; train or download that checkpoint again, or leave it out (--leave-out 'mask'" in said
    assert small_models.contents(tmp_path) == before
    assert call(command, *named, "--leave-out", "mask", "--out", name) == 0


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{key}": tensor for key, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "net.encoder."])
@pytest.mark.parametrize("of_base", [False, True])
def test_prefixes_of_wrappers_are_taken_off_with_a_note(
    prefix: str, of_base: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    states = [small_models.state(seed) for seed in range(3)]
    wrapped = [prefixed(prefix)(state) if (number == 0) == of_base else state for number, state in enumerate(states)]
    assert call("merge", *wrote(*wrapped), "--out", "m.safetensors") == 0
    read = ("logit_scale", f"{prefix}logit_scale") if of_base else (f"{prefix}logit_scale", "logit_scale")
    assert f"1.safetensors: `{read[0]}` is read as `{read[1]}`, and 7 more names likewise.\n" in capsys.readouterr().err
    found = load_file("m.safetensors")
    assert found.keys() == wrapped[0].keys()
    assert same({key.removeprefix(prefix): tensor for key, tensor in found.items()}, merged())
    assert call("plan", *wrote(*wrapped)) == 0
    assert f"note        1.safetensors: `{read[0]}` is read as `{read[1]}`" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("method", ["tsv-m", "dare"])
def test_a_tied_head_that_one_side_stores_follows_the_embedding(
    suffix: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    states = [weights(seed) for seed in range(3)]
    for seed, state in enumerate(states):
        state["embed.weight"] = torch.randn(20, 12, generator=torch.Generator().manual_seed(seed))
    plain = wrote(*states)
    assert call("merge", *plain, "--method", method, "--out", "plain.safetensors") == 0
    expected = load_file("plain.safetensors")
    head = states[0]["embed.weight"]
    tied = states[0] | {"lm_head.weight": head.clone() if suffix == ".safetensors" else head}
    (save_file if suffix == ".safetensors" else torch.save)(tied, f"tied{suffix}")
    assert call("plan", "--base", f"tied{suffix}", *plain[2:]) == 0
    told = "tied        `lm_head.weight` is merged as `embed.weight`, which it is tied to\n"
    assert told in capsys.readouterr().out
    assert call("merge", "--base", f"tied{suffix}", *plain[2:], "--method", method, "--out", "m.safetensors") == 0
    found = load_file("m.safetensors")
    assert torch.equal(found["lm_head.weight"], found["embed.weight"])
    assert not torch.equal(found["embed.weight"], head)
    # What DARE drops depends on which tensors there are.
    assert method == "dare" or same(found, expected)
    experts = [word for seed in (1, 2) for word in ("--expert", f"e{seed}.pt")]
    for seed in (1, 2):
        torch.save(states[seed] | {"lm_head.weight": states[seed]["embed.weight"]}, f"e{seed}.pt")
    assert call("merge", *plain[:2], *experts, "--method", method, "--out", "m.safetensors") == 0
    assert same(load_file("m.safetensors"), expected)
    assert load_file("m.safetensors").keys() == expected.keys()


def headed(seed: int, classes: int) -> State:
    return weights(seed) | {"head.weight": torch.randn(classes, 5), "head.bias": torch.zeros(classes)}


@pytest.mark.parametrize("of_base", [None, 1000])
def test_heads_are_left_out_and_a_recipe_remembers_it(of_base: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    base = headed(0, of_base) if of_base else weights(0)
    words = wrote(base, headed(1, 10), headed(2, 7))
    for command in ("merge", "plan"):
        assert call(command, *words, "--out", "m.safetensors") == 1
        assert "(--leave-out 'head." in capsys.readouterr().err
    out = ("--leave-out", "head.*")
    assert call("plan", *words, *out) == 0
    assert f"{'left out' if of_base else 'absent':<11} 2 " in capsys.readouterr().out
    assert call("merge", *words, *out, "--device", "cpu", "--out", "m.safetensors") == 0
    found = load_file("m.safetensors")
    assert found.keys() == base.keys()
    assert same(found, merged() | {key: base[key] for key in base if key.startswith("head")})
    assert call("merge", "--recipe", "m.safetensors", "--out", "again.safetensors") == 0
    assert Path("again.safetensors").read_bytes() == Path("m.safetensors").read_bytes()
    assert call("compress", *words[:4], *out, "--rank", "2", "--out", "f.safetensors") == 0
    assert not any(key.startswith("head") for key in load_file("f.safetensors"))
    for command in ("interference", "spectra"):
        assert call(command, *words, *out, "--out", "t.csv") == 0
        assert "head" not in Path("t.csv").read_text()


def test_a_mistyped_pattern_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = wrote(*map(weights, range(3)))
    assert call("merge", *words, "--leave-out", "logit_skale", "--out", "m.safetensors") == 1
    assert "nothing in 0.safetensors and its experts has a name like `logit_skale`" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["tsv-m", "task-arithmetic", "ties"])
def test_changes_of_an_expert_count_its_weight(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*wrote(*map(small_models.state, range(3))), "--method", method, "--device", "cpu")
    assert call("merge", *words, "--out", "one.safetensors", "--weight", "1", "--weight", "1") == 0
    assert same(load_file("one.safetensors"), merged(method, made=small_models.state))
    for weight in ((2.0, 0.5), (1.0, 0.0), (-1.0, 1.0)):
        given = [word for each in weight for word in ("--weight", each)]
        assert call("merge", *words, *given, "--out", "m.safetensors") == 0
        assert same(load_file("m.safetensors"), merged(method, weight=weight, made=small_models.state))
    assert call("merge", "--recipe", "m.safetensors", "--out", "again.safetensors") == 0
    assert Path("again.safetensors").read_bytes() == Path("m.safetensors").read_bytes()
    capsys.readouterr()
    for wrong, sentence in ((["2"], "1 weights and 2 experts"), (["1", "nan"], "a weight is nan; choose a finite")):
        for command in ("merge", "plan"):
            given = [word for each in wrong for word in ("--weight", each)]
            assert call(command, *words, *given, "--out", "x.safetensors") == 1
            assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("of_base", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("of_experts", [torch.float16, torch.float32])
def test_base_and_experts_may_be_of_other_types(of_base: torch.dtype, of_experts: torch.dtype) -> None:
    base = {key: tensor.to(of_base) for key, tensor in weights(0).items()} | {"none": torch.zeros(0, 3, dtype=of_base)}
    experts = [{key: tensor.to(of_experts) for key, tensor in weights(seed).items()} for seed in (1, 2)]
    experts = [expert | {"none": torch.zeros(0, 3, dtype=of_experts)} for expert in experts]
    assert call("merge", *wrote(base, *experts), "--out", "m.safetensors") == 0
    wide = [{key: tensor.double() for key, tensor in state.items()} for state in (base, *experts)]
    update = merging.merged_update([task_vector(wide[0], expert) for expert in wide[1:]])
    for key, tensor in load_file("m.safetensors").items():
        assert tensor.dtype == of_base
        exact = wide[0][key] + update[key]
        torch.testing.assert_close(tensor.double(), exact, rtol=torch.finfo(of_base).eps, atol=1e-5)


@pytest.mark.parametrize("place", ["state_dict", "model", "teacher", "model_ema", "module"])
def test_nested_checkpoints_of_lightning_and_others_are_read(place: str) -> None:
    words = ["--base", "base.safetensors", "--expert", "1.ckpt", "--expert", "2.ckpt"]
    save_file(weights(0), "base.safetensors")
    for seed in (1, 2):
        torch.save({"epoch": 3, place: prefixed("model.")(weights(seed)), "optimizer": {"lr": 0.1}}, f"{seed}.ckpt")
    assert call("merge", *words, "--out", "m.safetensors") == 0
    assert same(load_file("m.safetensors"), merged())


def test_a_checkpoint_with_parameters_is_read() -> None:
    for seed in range(3):
        torch.save({key: torch.nn.Parameter(tensor) for key, tensor in weights(seed).items()}, f"{seed}.pt")
    words = ["--base", "0.pt", "--expert", "1.pt", "--expert", "2.pt"]
    assert call("merge", *words, "--out", "m.safetensors") == 0
    assert same(load_file("m.safetensors"), merged())


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "model.fp16.safetensors",
        "diffusion_pytorch_model.bin",
        "pytorch_model.fp16.bin",
    ],
)
def test_folders_of_diffusers_and_variants_are_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = []
    for seed in range(3):
        Path(str(seed)).mkdir()
        (save_file if name.endswith("safetensors") else torch.save)(weights(seed), f"{seed}/{name}")
        Path(f"{seed}/config.json").write_text(json.dumps({}))
        words += ["--expert" if seed else "--base", str(seed)]
    assert call("merge", *words, "--out", "m.safetensors") == 0
    assert same(load_file("m.safetensors"), merged())
    assert ("there is the variant fp16 alone" in capsys.readouterr().err) == ("fp16" in name)


def test_several_alphas_are_written_in_one_pass(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*wrote(*map(small_models.state, range(3))), "--device", "cpu")
    asked: list[str] = []
    ordinary = merging.update
    monkeypatch.setattr(merging, "update", lambda *given: asked.append(given[2]) or ordinary(*given))
    assert call("merge", *words, "--alpha", "0.5,1,1.5", "--out", "m.safetensors") == 0
    assert sorted(asked) == sorted(small_models.SHAPES)
    told = capsys.readouterr().out.splitlines()
    for line, alpha in zip(told, ("0.5", "1", "1.5"), strict=True):
        file = Path(f"m-alpha-{alpha}.safetensors")
        assert line == f"{file}: {file.stat().st_size:,} bytes, digest {checkpoints.digest(file)[:12]}."
        assert same(load_file(file), merged(alpha=float(alpha)))
        assert call("merge", *words, "--alpha", alpha, "--out", "one.safetensors") == 0
        assert Path("one.safetensors").read_bytes() == file.read_bytes()
    assert not Path("m.safetensors").exists()
    assert call("compress", *words[:4], "--out", "f.safetensors") == 0
    assert call("expand", *words[:2], "--factors", "f.safetensors", "--alpha", "0.1,0.2", "--out", "e.safetensors") == 0
    assert call("expand", *words[:2], "--factors", "f.safetensors", "--alpha", "0.2", "--out", "e.safetensors") == 0
    assert Path("e.safetensors").read_bytes() == Path("e-alpha-0.2.safetensors").read_bytes()


def test_of_several_alphas_all_files_appear_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = [{"w": torch.full((3, 3), value).half()} for value in (0.0, 6e4, 6e4)]
    words = (*wrote(*states), "--method", "weight-averaging", "--out", "new/m.safetensors")
    before = small_models.contents(tmp_path)
    assert call("merge", *words, "--alpha", "0.5,1.0,2.0") == 1
    assert "`w` would reach 1.2e+05" in capsys.readouterr().err
    assert small_models.contents(tmp_path) == before
    assert not Path("new").exists()
    for wrong in ("1,1.0", "1,nan", ","):
        assert call("merge", *words, "--alpha", wrong) in (1, 2)
        assert small_models.contents(tmp_path) == before
    assert call("merge", *words, "--alpha", "0.5,1.0") == 0
    assert len(list(Path("new").iterdir())) == 2


def test_losses_are_told_for_each_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    start = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).bfloat16()
    words = wrote({"w": start}, *[{"w": start.float() + change} for change in (1e-4, 2e-4)])
    assert call("merge", *words, "--alpha", "1,2", "--out", "m.safetensors") == 0
    assert capsys.readouterr().out.count("rounding to bfloat16 lost") == 2


def test_a_plan_takes_the_options_of_a_merge_and_tells_what_merging_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = wrote(*map(small_models.state, range(3)))
    options = ("--method", "ties", "--then", "svc", "--alpha", "0.5,1", "--dtype", "float64", "--out", "m.safetensors")
    before = small_models.contents(tmp_path)
    assert call("plan", *words, *options) == 0
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert told["fits"] == "yes"
    written = 2 * 8 * sum(tensor.numel() for tensor in small_models.state(0).values())
    assert told["written"].startswith(f"{written / 1e3:.3g} kB, of ")
    for wrong in (
        ("--method", "none"),
        ("--dtype", "int8"),
        ("--alpha", "inf"),
        ("--then", "ties"),
        ("--alpha", "1", "--out", "0.safetensors"),
        ("--out", "m.pt"),
    ):
        said = []
        for command in ("plan", "merge"):
            assert call(command, *words, *options, *wrong) == 1
            said.append(capsys.readouterr().err.splitlines()[-1])
        assert said[0] == said[1]
        assert small_models.contents(tmp_path) == before


def test_a_plan_that_does_not_fit_says_so_by_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = wrote(*map(small_models.state, range(3)))
    monkeypatch.setattr("tsvlib.cli.room.free_memory", lambda: 10)
    assert call("plan", *words) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("fits        no: ")
    assert captured.err == ""
