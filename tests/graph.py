# SPDX-License-Identifier: MIT
"""The Makefile as make itself understands it, and the notebooks' calls that it has to agree with."""

import ast
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from compendium import paths

Rules = Mapping[str, list[str]]
OF_A_PROFILE = re.compile(r"(data|figures|notebooks)/(?!compare/)")
ROOTS = {"tsvlib": Path(), "compendium": Path("notebooks")}


def rules(profile: str = "mini", folder: Path = paths.ROOT) -> Rules:
    """Return the prerequisites of all that notebooks of one profile or the training make, order-only ones left out."""
    command = ["make", "--print-data-base", "--question", "--no-builtin-rules", f"PROFILE={profile}", "help"]
    database = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    found = {}
    for line in database.splitlines():
        target, colon, rest = line.partition(": ")
        if colon and OF_A_PROFILE.match(target) and (needs := rest.split("|")[0].split()):
            found[target] = needs
    return found


def closure(target: str, graph: Rules) -> set[str]:
    """Return everything that ``target`` depends on."""
    needs = set(graph.get(target, []))
    return needs.union(*(closure(need, graph) for need in needs))


def calls(source: Path, module: str, function: str, position: int = 0) -> set[str]:
    """Return the literal names that a notebook passes to ``module.function`` as the argument at ``position``."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (function, f"{module}.{function}"):
            argument = node.args[position]
            assert isinstance(argument, ast.Constant), f"{source.name}: {function} needs a literal name"
            names.add(argument.value)
    return names


def imported_modules(source: Path) -> set[str]:
    """Return the modules of this checkout that a notebook imports, by their full names."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOTS:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name if files_of(name) else name.rpartition(".")[0] for name in names}


def files_of(module: str) -> set[str]:
    """Return the files that a module or package may be in, relative to the checkout."""
    place = (ROOTS[module.split(".")[0]] / Path(*module.split("."))).as_posix()
    return {name for name in (f"{place}.py", f"{place}/__init__.py") if (paths.ROOT / name).is_file()}
