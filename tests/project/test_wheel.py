# SPDX-License-Identifier: MIT
"""The wheel of tsvlib in an environment that holds nothing but what it declares, far from the checkout."""

import re
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
import small_models
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compendium import paths

pytestmark = pytest.mark.slow


def closure(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """Return the installed distributions that requirements of this platform lead to, by their names."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = wanted.extras or {""}
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name not in found:
            found[name] = metadata.distribution(name)
            waiting += [Requirement(line) for line in found[name].requires or [] if "extra ==" not in line]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and links to the packages that it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(paths.ROOT)], check=True)
    (wheel,) = folder.glob("tsvlib-*.whl")
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for distribution in closure(project["dependencies"]).values():
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    executable = folder / "env" / "bin" / "python"
    install = ["--quiet", "--python", str(executable), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return executable


def ran(command: list[str], folder: Path) -> str:
    """Run a command in a folder, without a word of this checkout in its environment, and return what it says."""
    clean = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_alone(python: Path, tmp_path: Path) -> None:
    others = ("compendium", "matplotlib")
    code = f"import tsvlib, importlib.util as u; print(tsvlib.__file__, *map(u.find_spec, {others}))"
    place, *found = ran([str(python), "-c", code], tmp_path).split()
    assert Path(place).is_relative_to(python.parents[1])
    assert found == ["None", "None"]


def test_its_console_script_works_from_any_folder(python: Path, tmp_path: Path) -> None:
    base, experts = small_models.write(tmp_path / "models")
    inputs = ["--base", str(base), *(word for expert in experts for word in ("--expert", str(expert)))]
    said = ran([str(python.with_name("tsvlib")), "merge", *inputs, "--out", "m.safetensors"], tmp_path)
    assert re.fullmatch(r"m\.safetensors: [\d,]+ bytes, digest [0-9a-f]{12}\.\n", said)
    assert (tmp_path / "m.safetensors").is_file()


def test_the_python_of_the_readme_runs_there(python: Path, tmp_path: Path) -> None:
    base, experts = small_models.write(tmp_path / "models")
    for name, file in {"base": base, "cars": experts[0], "svhn": experts[1]}.items():
        file.rename(tmp_path / f"{name}.safetensors")
    (block,) = re.findall(r"```python\n(.*?)```", (paths.ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    ran([str(python), "-c", block], tmp_path)
    assert {"merged.safetensors", "cars.tsvc.safetensors"} <= {file.name for file in tmp_path.iterdir()}
