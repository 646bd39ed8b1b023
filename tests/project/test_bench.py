# SPDX-License-Identifier: MIT
"""The benchmark compares with the right thing, on checkpoints of the right kind."""

import ast
import math
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from oracles import matrix
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import backbone, counts, drawing, layouts, literal, methods, oracle, run, steps, summary, synthetic, table
from bench.measure import measured
from bench.steps import Settings
from bench.table import Row
from compendium.paths import ROOT
from tsvlib import checkpoints
from tsvlib.checkpoints import TensorInfo, open_checkpoint
from tsvlib.errors import InputError
from tsvlib.methods import METHODS, PROCESSES

TINY = layouts.layout("tiny")
Array = npt.NDArray[np.float64]


def polar(x: Array) -> Array:
    p, _, q = np.linalg.svd(x, full_matrices=False)
    result: Array = p @ q
    return result


@pytest.mark.parametrize("shape", [(9, 6), (6, 6), (6, 11)])
@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_the_literal_merge_is_algorithm_1(shape: tuple[int, int], tasks: int) -> None:
    deltas = [matrix(*shape, seed) for seed in range(tasks)]
    k = min(shape) // tasks
    factors = [np.linalg.svd(delta.numpy(), full_matrices=False) for delta in deltas]
    u = np.concatenate([u[:, :k] for u, _, _ in factors], axis=1)
    s = np.concatenate([s[:k] for _, s, _ in factors])
    v = np.concatenate([vh[:k].T for _, _, vh in factors], axis=1)
    expected = polar(u) @ np.diag(s) @ polar(v).T
    torch.testing.assert_close(literal.tsv_m_matrix(deltas), torch.from_numpy(expected))


def test_the_literal_merge_decomposes_and_averages_what_the_published_one_does() -> None:
    shapes = {"model.w": (6, 4), "model.text_projection": (6, 4), "model.conv": (2, 3, 2, 2), "model.bias": (5,)}
    vectors = [{key: matrix(1, math.prod(s), t).reshape(s) for key, s in shapes.items()} for t in range(3)]
    update = literal.tsv_m(vectors)
    torch.testing.assert_close(update["model.w"], literal.tsv_m_matrix([vector["model.w"] for vector in vectors]))
    for key in list(shapes)[1:]:
        torch.testing.assert_close(update[key], torch.stack([vector[key] for vector in vectors]).mean(0))
    compressed = literal.tsv_c(vectors[0], 3)
    assert {key: int(torch.linalg.matrix_rank(compressed[key])) for key in list(shapes)[:2]} == {
        "model.w": 1,
        "model.text_projection": 1,
    }
    assert torch.equal(compressed["model.conv"], vectors[0]["model.conv"])


def test_the_literal_interference_is_equation_6() -> None:
    deltas = [matrix(7, 4, seed) for seed in range(3)]
    factors = [np.linalg.svd(delta.numpy(), full_matrices=False) for delta in deltas]
    u, v = (np.concatenate([side[i] if i == 0 else side[i].T for side in factors], axis=1) for i in (0, 2))
    s = np.diag(np.concatenate([s for _, s, _ in factors]))
    expected = np.abs((u.T @ u - np.eye(12)) @ s @ (v.T @ v - np.eye(12))).sum()
    assert literal.singular_task_interference(deltas) == pytest.approx(expected, rel=1e-12)


def test_the_literal_interference_has_no_dense_diagonal_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    def dense(*arguments: object) -> Tensor:
        raise AssertionError("the opponent multiplies by a dense diagonal matrix")

    monkeypatch.setattr(torch, "diag", dense)
    assert literal.singular_task_interference([matrix(5, 3, seed) for seed in range(2)]) > 0


def test_matrices_that_no_expert_changed_are_decomposed_and_told_apart(tmp_path: Path) -> None:
    base, experts = synthetic.write(tmp_path, "tiny", 2)
    start, states = load_file(base), [load_file(path) for path in experts]
    vectors = literal.task_vectors(start, states, torch.float32)
    assert literal.unchanged(vectors) == {"model.token_embedding.weight", "model.positional_embedding"}
    seconds = literal.merge_files(base, experts, out := tmp_path / "merged.safetensors", 1.0, torch.float32)
    assert seconds > 0
    merged, update = load_file(out), literal.tsv_m(vectors)
    assert merged.keys() == start.keys()
    assert all(torch.equal(merged[key], start[key] + update[key]) for key in start)


@pytest.mark.parametrize(
    ("name", "changed", "matrices"),
    [("ViT-B-32", 87_849_216, 50), ("ViT-B-16", 86_192_640, 50), ("ViT-L-14", 303_966_208, 98)],
)
def test_layouts_are_those_of_the_published_files(name: str, changed: int, matrices: int) -> None:
    shapes = layouts.layout(name)
    assert (len(shapes), layouts.parameters(shapes)) == layouts.PUBLISHED[name]
    assert layouts.parameters(layouts.visual(shapes)) == changed
    assert len(layouts.matrices(shapes)) == matrices
    assert TINY.keys() == {key for key in shapes if layouts.block(key) in {"", "0", "1"}}


def test_an_unknown_layout_is_told() -> None:
    with pytest.raises(
        InputError, match=r"there is no layout `ViT-X`; choose one of ViT-B-32, ViT-B-16, ViT-L-14, tiny, toy\."
    ):
        layouts.layout("ViT-X")


def test_synthetic_checkpoints_have_the_layout_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    base, experts = synthetic.write(tmp_path / "one", "tiny", 2, workers=2)
    again, others = synthetic.write(tmp_path / "two", "tiny", 2)
    found = open_checkpoint(base)
    assert found.layout == {key: TensorInfo(torch.float32, shape) for key, shape in TINY.items()}
    for left, right in zip([base, *experts], [again, *others], strict=True):
        assert left.read_bytes() == right.read_bytes()
        left_state, start = load_file(left), load_file(base)
        changed = {key for key in TINY if not torch.equal(left_state[key], start[key])}
        assert changed == (set() if left == base else set(layouts.visual(TINY)))
    assert experts[0].read_bytes() != experts[1].read_bytes()
    assert synthetic.write(tmp_path / "three", "tiny", 1, seed=1)[0].read_bytes() != base.read_bytes()


def test_finished_files_are_kept_and_others_made_again(tmp_path: Path) -> None:
    base, experts = synthetic.write(tmp_path, "tiny", 2)
    before = {path: path.stat().st_mtime_ns for path in (base, *experts)}
    content = experts[0].read_bytes()
    experts[0].write_bytes(content[:100])
    checkpoints.save(experts[1], {"w": torch.zeros(2)}, {"made by": "someone"})
    synthetic.write(tmp_path, "tiny", 2)
    assert base.stat().st_mtime_ns == before[base]
    assert experts[0].read_bytes() == content
    assert open_checkpoint(experts[1]).layout.keys() == TINY.keys()


def test_without_room_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 10))
    with pytest.raises(InputError, match=r"are needed and 0\.0 GB are free; free some space"):
        synthetic.write(tmp_path, "tiny", 2)
    assert not list(tmp_path.iterdir())


def test_task_matrices_decay_and_overlap() -> None:
    one, two = (synthetic.change(0, "model.visual.proj", (192, 128), task).double() for task in (1, 2))
    s = torch.linalg.svdvals(one)
    assert torch.linalg.matrix_norm(one) == pytest.approx(0.03 * 0.02 * (192 * 128) ** 0.5, rel=1e-5)
    # A power law of exponent 0.7 as far as a quarter of the components, give or take what random directions do.
    leading = torch.arange(1, 33, dtype=s.dtype)
    slope = np.polyfit(leading.log().numpy(), s[:32].log().numpy(), 1)[0]
    assert -1.1 < slope < -0.6
    assert s[:16].square().sum() > 0.8 * s.square().sum()
    cosine = float((one * two).sum() / one.norm() / two.norm())
    assert 0.02 < cosine < 0.15


def test_counts_of_one_matrix_by_hand() -> None:
    # 3 x 2, two tasks: k = 1, c = 2; a Gram matrix and an image a task, then both together.
    found = counts.matrix(2, 3, 2)
    assert (found.products32, found.eigen32) == (2 * 3 * 2 * 2, 0)
    assert found.products64 == 2 * (3 * 4 + 2 * 3 * 2) + 3 * 5 * 4 + 2 * 8
    assert found.eigen64 == 2 * 9 * 8 + 2 * 9 * 8
    assert found.transferred == 4 * (2 * 6 + 6)
    assert counts.matrix(2, 3, 2) == counts.matrix(3, 2, 2)


def test_long_sides_are_made_orthonormal_in_float32() -> None:
    long, short = counts.polar(4, 2), counts.polar(3, 2)
    assert (long.products32, long.eigen32, long.products64) == (3 * 4 * 4 + 8, 9 * 8, 0)
    assert (short.products64, short.eigen64, short.products32) == (3 * 3 * 4 + 8, 9 * 8, 0)
    # The inverse root of a long side meets the short side instead: 2 * 4 for each row less.
    assert counts.polar(9, 2, 2).products32 == counts.polar(9, 2).products32 - 2 * 4 * (9 - 2)
    assert counts.matrix(9, 2, 2).products32 == 13 * 4 + 8 + 2 * 9 * 2 * 2


def test_counts_of_a_merge_add_up() -> None:
    shapes = {"model.visual.proj": (3, 2), "model.visual.bias": (5,), "model.token_embedding.weight": (7, 2)}
    found, one = counts.merge(shapes, 2), counts.matrix(3, 2, 2)
    assert (found.read, found.written) == (2 * 3 * 4 * 25, 4 * 25)
    assert found.operations == one.operations
    assert found.transferred == one.transferred + 3 * 4 * 5
    device = counts.Device(float32=1e3, float64=1e2, memory=1e1, link=1e0, eigen_share=0.5)
    floor = counts.floor(found, device)
    assert floor["products"] == pytest.approx(one.products32 / 1e3 + one.products64 / 1e2)
    assert floor["eigendecompositions"] == pytest.approx(2 * (one.eigen32 / 1e3 + one.eigen64 / 1e2))
    assert (floor["device memory"], floor["link"]) == (found.moved / 1e1, found.transferred)


def test_bytes_of_compressed_task_vectors() -> None:
    shapes = {"model.visual.proj": (6, 4), "model.visual.bias": (5,), "model.text_projection": (7, 2)}
    assert counts.compressed_bytes(shapes, 2) == 4 * (2 * (6 + 4 + 1) + 5)
    expected = {"ViT-B-32": [19.0, 11.9, 9.2], "ViT-L-14": [16.9, 9.8, 6.9]}
    for name, shares in expected.items():
        whole = 4 * layouts.parameters(layouts.visual(layouts.layout(name)))
        found = [100 * counts.compressed_bytes(layouts.layout(name), tasks) / whole for tasks in (8, 14, 20)]
        assert found == pytest.approx(shares, abs=0.06)


def test_the_readme_prints_the_counts() -> None:
    assert counts.table() in (ROOT / "bench" / "README.md").read_text(encoding="utf-8")


def test_the_readme_prints_what_was_measured() -> None:
    text = summary.README.read_text(encoding="utf-8")
    rows = table.read(run.RESULTS / "bench.csv")
    assert summary.renewed(text, rows) == text
    _, _, told = text.partition("## Measured: one merge on a GPU")
    for row in (row for row in rows if row.step == "gpu"):
        if row.unit == "s":
            assert f"{row.value:.1f} s" in told
        elif row.quantity.startswith("error"):
            assert f"{row.value:.1e}".replace("e-0", "e-") in told
        elif row.quantity.endswith(", 1 at once"):
            assert f"{row.value:.1f}" in told


def test_ratios_are_told_with_and_without_what_inflates_them() -> None:
    rows = [
        *(Row("merge", name, "time", value, "s") for name, value in (("literal", 50.0), ("ours", 10.0))),
        Row("merge", "literal", "time of unchanged matrices", 10.0, "s"),
        Row("merge", "ours", "speed-up", 4.0, "times"),
        Row("merge", "ours", "speed-up with unchanged matrices", 5.0, "times"),
        Row("paper", "all", "literal, extrapolated", 4400.0, "s"),
        Row("paper", "all", "ours", 400.0, "s"),
        Row("paper", "all", "speed-up", 11.0, "times"),
    ]
    lines = [line.strip("| ").split(" | ") for line in summary.summary(rows).splitlines()[2:]]
    assert lines == [
        ["`merge`", "40 s", "10 s", "4.0"],
        ["`merge`, unchanged matrices decomposed too", "50 s", "10 s", "5.0"],
        ["`paper`: all", "4,400 s", "400 s", "11.0"],
    ]
    begins = (summary.BEGIN, summary.METHODS, summary.MODELS)
    text = "before\n\n" + "\n\nbetween\n\n".join(f"{begin}old" for begin in begins) + "\n\nafter\n"
    made = (summary.summary(rows), summary.NOT_RUN, summary.NOT_RUN)
    tables = "\n\nbetween\n\n".join(begin + each for begin, each in zip(begins, made, strict=True))
    assert summary.renewed(text, rows) == f"before\n\n{tables}\n\nafter\n"


def test_methods_are_told_from_the_quickest_on() -> None:
    rows = [
        Row("methods", name, quantity, value, unit)
        for name, seconds, beyond in (("wudi", 1234.5, 0.5), ("task_arithmetic+svc", 2.0, 0.25))
        for quantity, value, unit in (("time", seconds, "s"), ("peak beyond import torch", beyond, "GB"))
    ]
    lines = [line.strip("| ").split(" | ") for line in summary.of_methods(rows).splitlines()[2:]]
    assert lines == [["`task-arithmetic+svc`", "2.0 s", "0.25 GB"], ["`wudi`", "1,234.5 s", "0.50 GB"]]


def test_models_are_told_as_they_were_on_cpus() -> None:
    rows = [
        Row("models", f"{name}, {device}", quantity, value, "s")
        for name, device, value in (("ViT-B-32", "cpu", 1.25), ("ViT-B-32", "cuda", 9.0), ("ViT-L-14", "cpu", 250.0))
        for quantity in ("numbers of a checkpoint", *summary.OF_MODELS)
    ]
    head, _, *lines = [line.strip("| ").split(" | ") for line in summary.of_models(rows).splitlines()]
    assert head == ["ViT-B-32", "ViT-L-14"]
    assert ["merging, from files to a file", "1.25 s", "250 s"] in lines
    assert len(lines) == len(summary.OF_MODELS)


def test_every_method_of_the_library_is_measured() -> None:
    alone = [name for name in methods.cases() if "+" not in name]
    assert {*alone, *methods.SAME} == METHODS.keys() - PROCESSES.keys()
    assert {name.partition("+")[2] for name in methods.cases() if "+" in name} == PROCESSES.keys()
    assert set(run.FEW) <= set(methods.cases())


def test_what_methods_are_told_is_as_large_as_what_is_measured() -> None:
    shapes = layouts.layout("tiny")
    block = "model.visual.transformer.resblocks.0"
    fisher, gram, inputs = (methods.Drawn(shapes, quantity, 0) for quantity in ("fisher", "gram", "inputs"))
    assert {key: tuple(fisher[key].shape) for key in fisher} == shapes
    assert (fisher["model.visual.proj"] >= 0).all()
    assert set(gram) == set(inputs) == {key for key in shapes if key.endswith(methods.LINEAR)}
    assert len(gram) == 8
    assert tuple(gram[f"{block}.mlp.c_proj.weight"].shape) == (96, 96)
    assert tuple(inputs[f"{block}.mlp.c_fc.weight"].shape) == (24, 24)
    assert torch.equal(gram[f"{block}.mlp.c_fc.weight"], gram[f"{block}.mlp.c_fc.weight"])


@pytest.mark.slow
def test_methods_are_measured_in_processes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["methods", "--tiny", "--folder", str(tmp_path), "--workers", "1"]) == 0
    rows = table.read(tmp_path / "results" / "bench.csv")
    values = {(row.case, row.quantity): row.value for row in rows}
    for name in run.FEW:
        assert values[name, "time"] > 0
        assert values[name, "peak memory"] > values["import torch", "peak memory"] > 0.05
    assert values["experts", "task vectors in float32"] == pytest.approx(12e-9 * layouts.parameters(TINY), rel=1e-5)
    assert "| regmean | time |" in capsys.readouterr().out


def test_a_step_replaces_only_its_own_rows(tmp_path: Path) -> None:
    file = tmp_path / "new" / "bench.csv"
    old, other = Row("merge", "ours", "time", 2.0, "s"), Row("storage", "a, b", "measured", 9.25, "%")
    table.replace(file, "storage", [other])
    table.replace(file, "merge", [old])
    table.replace(file, "merge", [new := old._replace(value=1.5)])
    assert table.read(file) == [new, other]
    assert file.read_text() == 'step,case,quantity,value,unit\nmerge,ours,time,1.5,s\nstorage,"a, b",measured,9.25,%\n'


def test_what_counts_something_keeps_all_its_digits(tmp_path: Path) -> None:
    rows = [Row("models", "a", "numbers", 113_448_705, ""), Row("models", "a", "time", 1234.5678, "s")]
    table.replace(tmp_path / "bench.csv", "models", rows)
    table.replace(tmp_path / "bench.csv", "merge", [])
    assert (tmp_path / "bench.csv").read_text().splitlines()[1:] == [
        "models,a,numbers,113448705,",
        "models,a,time,1234.57,s",
    ]
    assert "| 113448705 |" in table.markdown(rows)


def test_a_command_is_measured_by_itself() -> None:
    ballast = torch.ones(2**27)  # 512 MB here must not count there
    small = measured(["-c", "pass"], 1)
    large = measured(["-c", "x = b'1' * 200_000_000"], 1)
    assert ballast.nbytes > 400e6 > large.peak > small.peak + 190e6
    assert measured(["-c", "print(1); print(2)"], 1).said == "1\n2"
    with pytest.raises(InputError, match="failed with exit status 3"):
        measured(["-c", "raise SystemExit(3)"], 1)


def test_the_error_is_that_of_the_update(tmp_path: Path) -> None:
    base, experts = synthetic.write(tmp_path, "tiny", 2)
    exact, wrong = tmp_path / "exact.safetensors", tmp_path / "wrong.safetensors"
    literal.merge_files(base, experts, exact, 1.0, torch.float64)
    start, merged = load_file(base), load_file(exact)
    save_file({key: start[key] + 1.01 * (merged[key] - start[key]) for key in merged}, wrong)
    found = oracle.errors(base, experts, {"exact": exact, "wrong": wrong}, oracle.sample(TINY))
    assert found["exact"] == found[oracle.ROUNDED] < 1e-5
    assert found["wrong"] == pytest.approx(0.01, rel=1e-3)


def test_the_sample_holds_first_middle_and_last_block() -> None:
    shapes = layouts.layout("ViT-B-32")
    sample = oracle.sample(shapes)
    assert {layouts.block(key) for key in sample} == {"", "0", "6", "11"}
    assert len(sample) == 14 + 3 * 12


def test_one_matrix_of_each_shape_stands_for_all() -> None:
    found = backbone.representatives(layouts.matrices(layouts.layout("ViT-B-32")))
    blocks = "model.visual.transformer.resblocks.0."
    assert found == {
        "model.visual.positional_embedding": 1,
        "model.visual.proj": 1,
        f"{blocks}attn.out_proj.weight": 12,
        f"{blocks}attn.in_proj_weight": 12,
        f"{blocks}mlp.c_fc.weight": 24,
    }


def test_the_literal_algebra_of_a_backbone_agrees_with_ours(tmp_path: Path) -> None:
    rows = backbone.paper(Settings(tmp_path, 1, backbone="tiny", suites=(2, 3)))
    values = {(row.case, row.quantity): row.value for row in rows}
    assert values["TSV-M", "largest relative difference"] < 1e-3
    assert values["STI", "largest relative difference"] < 1e-4
    assert (values["literal", "matrices in the sample"], values["ours", "matrices measured"]) == (5, 10)
    for operation in (*backbone.OPERATIONS, backbone.WITHOUT, backbone.WITH):
        pair = [values[operation, quantity] for quantity in ("literal, extrapolated", "ours")]
        assert values[operation, "speed-up"] == pytest.approx(pair[0] / pair[1])
    literal_seconds = {case: value for (case, quantity), value in values.items() if quantity.startswith("literal,")}
    whole = sum(literal_seconds[operation] for operation in backbone.OPERATIONS)
    assert literal_seconds[backbone.WITH] == pytest.approx(whole)
    assert literal_seconds[backbone.WITHOUT] == pytest.approx(whole - literal_seconds["STI"])
    assert values[backbone.WITH, "ours"] > values[backbone.WITHOUT, "ours"]
    assert not list(tmp_path.iterdir())


def test_rows_state_workers_and_threads_of_both_sides(tmp_path: Path) -> None:
    rows = steps.merge(Settings(tmp_path, 2, merged=("tiny", 2)))
    values = {(row.case, row.quantity): row.value for row in rows}
    assert (values["literal", "workers"], values["literal", "threads per worker"]) == (1, 2)
    assert (values["ours", "workers"], values["ours", "threads per worker"]) == (2, 1)
    idle, whole, ours = (
        values[case, quantity]
        for case, quantity in (("literal", "time of unchanged matrices"), ("literal", "time"), ("ours", "time"))
    )
    assert 0 < idle < whole
    assert values["ours", "speed-up"] == pytest.approx((whole - idle) / ours)
    assert values["ours", "speed-up with unchanged matrices"] == pytest.approx(whole / ours)


@pytest.mark.slow
def test_every_step_runs_on_files_and_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["merge", "memory", "storage", "gpu", "figure", "--device", "cpu"]
    assert run.main([*names, "--tiny", "--folder", str(tmp_path)]) == 0
    rows = table.read(tmp_path / "results" / "bench.csv")
    values = {(row.step, row.case, row.quantity): row.value for row in rows}
    bound = max(1e-5, values["merge", "literal", "error of the update"])
    assert values["merge", "ours", "error of the update"] <= bound
    assert values["memory", "ours", "peak memory"] > values["memory", "import torch", "peak memory"] > 0.05
    # The same merge of the same files.
    here = f"cpu, PyTorch {torch.__version__}"
    assert values["gpu", here, "error of the update on cpu"] == values["merge", "ours", "error of the update"]
    # Headers weigh more in small files; the tensors alone are what the formula says.
    assert 1 < values["storage", "tiny, T = 2", "measured over formula"] < 1.5
    assert capsys.readouterr().out.count("| case | quantity | value |") == 4
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"bench.csv", "bench.svg", "bench.png"}


def test_a_failing_command_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.MEASUREMENTS, "storage", lambda settings: _failing())
    assert run.main(["storage", "--folder", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == "`python -c raise SystemExit(3)` failed with exit status 3; see what it says above.\n"
    )


def _failing() -> list[Row]:
    measured(["-c", "raise SystemExit(3)"], 1)
    return []


def test_the_same_rows_give_the_same_figure_and_absent_steps_are_named(tmp_path: Path) -> None:
    rows = [Row("storage", "a", quantity, 9.0, "%") for quantity in ("formula", "measured")]
    drawing.draw(rows, tmp_path / "one")
    drawing.draw(rows, tmp_path / "two")
    for name in ("bench.svg", "bench.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "bench.svg").read_text().count("was not run") == 3


@pytest.mark.parametrize("module", sorted((ROOT / "bench").glob("*.py")), ids=lambda module: module.name)
def test_modules_and_functions_can_be_read_in_one_sitting(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, f"{node.name} is too long"
