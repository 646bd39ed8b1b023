# SPDX-License-Identifier: MIT
"""What a result names as its origin is what it was computed from, and nothing tells who computed it where."""

import getpass
import hashlib
import json
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from compendium import paths, profiles, provenance, published
from compendium.paper import results
from compendium.study import evaluation, runs, studies
from compendium.worlds import inventory
from compendium.worlds.mini import datasets, models
from compendium.worlds.protocol import suite, world_of
from tsvlib import versions
from tsvlib.errors import InputError

SMOKE = profiles.load("smoke")
SOURCE = '# %% tags=["parameters"]\nprofile = "smoke"  # which\nsteps = 3  # how many\n\n# %%\nimport os\n'


def inputs():
    return provenance.record()["inputs"]


def test_versions_line_names_what_can_change_a_number_or_a_figure():
    line = provenance.versions_line()
    assert all(f"{package} " in line for package in ("python", "torch", "numpy", "scipy", "matplotlib"))
    assert "\n" not in line


@pytest.mark.slow
def test_a_table_names_the_versions_of_what_computes_in_its_world_and_no_others():
    code = """
import sys
from compendium import profiles, provenance
from compendium.worlds.protocol import world_of
print(*sorted(provenance.record()["versions"]))
world_of(profiles.load(sys.argv[1]))
print(*sorted(provenance.record()["versions"]))
"""
    always = {"python", "numpy", "scipy", "torch", "pandas"}
    for profile, more in {"smoke": {"open_clip_torch"}, "minilm": {"tokenizers", "transformers"}}.items():
        told = subprocess.check_output([sys.executable, "-c", code, profile], text=True).splitlines()
        assert [set(line.split()) for line in told] == [always, always | more]


def test_a_merge_names_cuda_only_where_it_computes():
    assert versions.of(versions.COMPUTING).keys() == {"python", "numpy", "scipy", "torch"}
    assert versions.of(versions.COMPUTING, "cuda").keys() >= {"cuda", *versions.COMPUTING}


def test_nothing_tells_who_or_where():
    told = json.dumps(provenance.record())
    assert platform.node() not in told
    assert f'"{getpass.getuser()}"' not in told
    assert str(paths.ROOT) not in told


def test_the_environment_names_processor_and_memory():
    environment = provenance.record()["environment"]
    assert environment["memory_gb"] >= 1
    assert environment["device"] == "cpu"
    if platform.machine() == "x86_64":
        assert environment["processor"].strip()


def test_a_gpu_is_named_where_one_computed(monkeypatch):
    monkeypatch.setattr(provenance, "_DEVICES", set())
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    provenance.name_device("cpu")
    assert "accelerator" not in provenance.record()["environment"]
    provenance.name_device("cuda")
    found = provenance.record()
    assert (found["environment"]["device"], found["environment"]["accelerator"]) == ("cuda", "a GPU")
    assert "cuda" in found["versions"]


def test_inputs_are_contents_under_relative_names(output):
    output.mkdir()
    for file in (output / "a.csv", output.parent / "b.csv"):
        file.write_bytes(b"x")
        assert provenance.read(file) == b"x"
    provenance.note(paths.ROOT / "pyproject.toml")
    provenance.note(output / "images", "digest")
    digest = hashlib.sha256(b"x").hexdigest()
    pyproject = hashlib.sha256((paths.ROOT / "pyproject.toml").read_bytes()).hexdigest()
    assert inputs() == {"a.csv": digest, "b.csv": digest, "images": "digest", "pyproject.toml": pyproject}


def test_a_file_that_changes_while_it_is_used_is_an_error(output):
    output.mkdir()
    file = output / "a.csv"
    file.write_bytes(b"x")
    provenance.read(file)
    provenance.note(file)
    file.write_bytes(b"y")
    for again in (provenance.read, provenance.note):
        with pytest.raises(InputError, match=r"a\.csv: it has changed since it was read first; run"):
            again(file)


def test_the_order_of_threads_changes_nothing(output, monkeypatch):
    found = []
    for order in (1, -1):
        monkeypatch.setattr(provenance, "_READ", {})
        threads = [threading.Thread(target=provenance.note, args=(output / name, name)) for name in "abcd"[::order]]
        for thread in threads:
            thread.start()
            thread.join()
        found.append(json.dumps(inputs()))
    assert found[0] == found[1]


def test_profiles_and_published_numbers_are_noted_when_they_are_loaded():
    profiles.load("smoke")
    published.load("alpha")
    assert list(inputs()) == ["data/published/alpha.csv", "data/smoke/profile.toml"]


def test_models_are_noted_with_configuration_weights_and_vocabulary():
    models.word_ids.cache_clear()
    models.tokenize(["a photo"])
    models.load_base("mini", "mini-b32")
    names = ("models/mini-b32.json", "profile.toml", "vocabulary.txt", "weights/mini-b32.safetensors")
    assert list(inputs()) == [f"data/mini/{name}" for name in names]


def test_measurements_name_the_same_inputs_whatever_the_caches_hold(monkeypatch):
    found = []
    for _ in range(2):
        monkeypatch.setattr(provenance, "_READ", {})
        models.word_ids.cache_clear()
        world_of.cache_clear()
        evaluator = evaluation.Evaluator(SMOKE, "smoke-b32")
        evaluator.accuracies(evaluator.base, ["mnist", "scenes"], "test")
        found.append(inputs())
        monkeypatch.setattr(evaluation.Evaluator, "predict", lambda *_: pytest.fail("nothing is measured again"))
    assert found[0] == found[1]
    split = datasets.cached(SMOKE, "mnist", "test")
    name = f"data/cache/smoke/datasets/mnist__test__{len(split.labels)}"
    pixels = hashlib.sha256(split.inputs.numpy().tobytes() + split.labels.numpy().tobytes()).hexdigest()
    assert found[0][name] == pixels
    assert sum("/datasets/" in each for each in found[0]) == 2


def test_experts_are_named_as_far_as_they_were_used(trained, monkeypatch):
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    run = next(runs.of(SMOKE))
    studies.references(run, 2)
    named = {name: digest for name, digest in inputs().items() if "/experts/" in name}
    manifest = json.loads(inventory.manifest_file(SMOKE).read_text())
    used = [f"smoke-b32__{task}__0" for task in suite(SMOKE, 2)]
    assert named == {f"data/cache/smoke/experts/{name}.safetensors": manifest[name] for name in used}


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook that runs in this process, as its kernel sees it."""
    source = tmp_path / "13_merge.py"
    source.write_text(SOURCE, encoding="utf-8")
    monkeypatch.setenv("JPY_SESSION_NAME", str(source.with_suffix(".ipynb")))
    monkeypatch.setattr(sys.modules["__main__"], "profile", "mini", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "steps", 5, raising=False)
    return source


def test_a_notebook_is_named_with_its_parameters_as_they_are(notebook):
    found = provenance.record()
    assert (found["notebook"], found["parameters"]) == ("13_merge.py", {"profile": "mini", "steps": 5})
    assert len(found["code"]) == 64


@pytest.mark.parametrize("last", ["if", "x = 1"])
def test_code_that_somebody_is_writing_is_unknown(notebook: Path, last: str):
    notebook.write_text(f"{SOURCE}\n# %%\n{last}\n", encoding="utf-8")
    found = provenance.record()
    assert (found["code"] is None) == (last == "if")
    assert found["parameters"] == {"profile": "mini", "steps": 5}


def test_parameters_that_were_never_set_are_unknown(notebook: Path, monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "steps")
    assert provenance.record()["parameters"] is None


@pytest.mark.parametrize("session", [None, "", "nowhere/13_merge.ipynb", "some-kernel-id"])
def test_outside_of_a_notebook_its_origin_is_unknown(monkeypatch, session):
    if session is not None:
        monkeypatch.setenv("JPY_SESSION_NAME", session)
    found = provenance.record()
    assert [found[key] for key in ("code", "notebook", "parameters")] == [None, None, None]


def test_what_a_world_says_of_its_versions_goes_into_sidecars_and_captions(output, monkeypatch):
    monkeypatch.setattr(provenance, "_STATED", set())
    frame, columns = pd.DataFrame({"name": ["a"], "value": [0.5]}), {"name": "key", "value": "share"}
    provenance.state("")
    results.save("small", frame, "smoke", columns)
    assert "stated" not in results.sidecar(paths.results("smoke") / "small.csv")
    assert results.stated("small", "smoke") == ""
    provenance.state("Experts: of somebody.")
    results.save("small", frame, "smoke", columns)
    assert results.stated("small", "smoke") == " Experts: of somebody."
