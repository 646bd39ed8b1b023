# SPDX-License-Identifier: MIT
"""What computes: the code of a notebook and of all modules that it imports, told by one digest.

Only what Python executes counts: neither comments, docstrings and the prose of a notebook nor the layout of lines.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path

from compendium import paths

_CELL = re.compile(r"^(?=# %%)", re.MULTILINE)


def parameters(notebook: Path) -> dict[str, object]:
    """Return the parameters of a notebook's source with their defaults, from its cells with that tag.

    Raises:
        SyntaxError: the cell is not Python.
        ValueError: a default is no literal.
    """
    statements = [line for cell in _cells(notebook, parameters=True) for line in ast.parse(cell).body]
    assigned = [line for line in statements if isinstance(line, ast.Assign)]
    return {ast.unparse(line.targets[0]): ast.literal_eval(line.value) for line in assigned}


def digest(notebook: Path, named: Iterable[str] = ()) -> str:
    """Return the SHA-256 of a notebook's code and of every module of the checkout that it imports, directly or not.

    So it is for modules that no import tells and that are ``named`` instead. The cell of parameters is left out,
    because a run may have others. Imports inside functions count as well.

    Raises:
        SyntaxError: the notebook or a module is not Python.
    """
    trees = {"__main__": ast.parse("".join(_cells(notebook, parameters=False)))}
    waiting = _imported(trees["__main__"], "").union(*map(_parts, named))
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if file and module not in trees:
            trees[module] = ast.parse(file.read_bytes())
            package = module if file.stem == "__init__" else module.rpartition(".")[0]
            waiting |= _imported(trees[module], package)
    found = hashlib.sha256()
    for module in sorted(trees):
        found.update(f"{_syntax(trees[module])}\n".encode())
    return found.hexdigest()


def _cells(notebook: Path, *, parameters: bool) -> list[str]:
    cells = _CELL.split(notebook.read_text(encoding="utf-8"))
    return [cell for cell in cells if ('"parameters"' in cell.partition("\n")[0]) == parameters]


def _imported(tree: ast.AST, package: str) -> set[str]:
    """Return everything that may be a module among what is imported, with the packages that it lies in."""
    found: set[str] = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = resolve_name("." * node.level + (node.module or ""), package)
            found |= {f"{start}.{alias.name}" for alias in node.names}
    return set().union(*map(_parts, found))


def _parts(name: str) -> set[str]:
    """Return the name of a module and of the packages that it lies in."""
    return set(accumulate(name.split("."), "{}.{}".format))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting.extend(ast.iter_child_nodes(node))


def _file(module: str) -> Path | None:
    """Return the file of a module of this checkout; of others there is none."""
    places = [root.joinpath(*module.split(".")) for root in (paths.ROOT, paths.ROOT / "notebooks")]
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return next((file for file in files if file.is_file()), None)


def _syntax(node: object) -> str:
    """Write down a syntax tree without docstrings; empty fields are left out, which other Pythons have more of."""
    if isinstance(node, list):
        return f"[{','.join(_syntax(each) for each in node if not _is_prose(each))}]"
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return f"{type(node).__name__}({','.join(f'{name}={_syntax(value)}' for name, value in fields)})"
    return repr(node)


def _is_prose(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
