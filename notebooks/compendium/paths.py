# SPDX-License-Identifier: MIT
"""Where everything lies: one name per folder, no ``..`` anywhere else; and what may write into the checkout.

Four environment variables redirect output: ``TSV_OUTPUT`` (another output root, as ``make verify`` uses it),
``TSV_CACHE`` (another place for what can be computed again), ``TSV_STAGE`` (a running notebook writes there first,
see :func:`staged`) and ``TSV_PROGRESS`` (see :mod:`tsvlib.progress`).
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

DEFAULT = "mini"
"""The profile whose executed notebooks lie beside their sources."""

TEST = "smoke"
"""The profile whose numbers mean nothing and of which nothing is committed."""

COMPARED = "compare"
"""In the place of a profile, for what shows several of them."""

_PART = re.compile(
    r"(?:-further_seeds-(?P<seeds>\d+))?(?:\+backbones-(?P<backbones>[^+]+))?(?:\+suites-(?P<suites>[\d,]+))?"
)
"""The end of a folder's name after that of the profile. No name of a backbone holds a plus or a comma."""


def output_root(profile: str) -> Path:
    """Return the folder below which a profile's results, figures and executed notebooks lie.

    That is the checkout, and for the test profile a folder in ``build``.
    """
    return _given("TSV_OUTPUT") or _own_root(profile)


def roots() -> tuple[Path, ...]:
    """Return the folders in which files of any profile, or the checkout's own, can lie; inner ones come first."""
    return output_root(TEST), output_root(DEFAULT), ROOT


def published() -> Path:
    """Return the folder of the numbers that the paper printed, which belong to the checkout."""
    return ROOT / "data" / "published"


def results(profile: str) -> Path:
    """Return the folder of a profile's result tables (CSV with sidecar)."""
    return output_root(profile) / "data" / "results" / profile


def figures(profile: str) -> Path:
    """Return the folder of a profile's figures and printed tables."""
    return output_root(profile) / "figures" / profile


def cache(profile: str) -> Path:
    """Return the folder of everything that can be computed again: experts, evaluations, data sets."""
    return (_given("TSV_CACHE") or output_root(profile) / "data" / "cache") / profile


def notebooks(profile: str) -> Path:
    """Return the folder of a profile's executed notebooks; their sources lie in ``ROOT / "notebooks"``."""
    folder = output_root(profile) / "notebooks"
    return folder if profile == DEFAULT else folder / profile


def build() -> Path:
    """Return the folder of drafts, logs and tool caches, which may be deleted at any time."""
    return ROOT / "build"


def destination(profile: str, changed: Mapping[str, object], part: str = "") -> Path:
    """Return the root below which a run with the parameters ``changed`` puts everything that it makes.

    What the checkout holds was made with the parameters that the notebooks state, so any other run gets a root of its
    own in ``build``, unless ``TSV_OUTPUT`` says where to write. So does a run of a ``part`` of a profile.
    """
    if _given("TSV_OUTPUT") or not (changed or part):
        return output_root(profile)
    words = "".join(f"-{name}-{value}" for name, value in sorted(changed.items()))
    return build() / "".join((profile, re.sub(r"[^\w.-]+", "_", words)[:100], part))


def surroundings(profile: str, part: str) -> dict[str, str]:
    """Return what redirects those who work on a ``part`` of a profile: results of their own, the cache of the whole.

    Nothing does where there is no part, or ``TSV_OUTPUT`` says already where to write.
    """
    if not part or _given("TSV_OUTPUT"):
        return {}
    return {"TSV_OUTPUT": str(destination(profile, {}, part)), "TSV_CACHE": str(cache(profile).parent)}


def staged(path: Path, profile: str) -> Path:
    """Return where to write ``path``, which belongs to a profile, and make that folder.

    While the runner executes a notebook, this is a place in its stage folder, from which everything moves into
    place together when the notebook has succeeded. Without a runner, as in JupyterLab, what would change the checkout
    becomes a draft in ``build``, and anything else is written where it belongs.

    Raises:
        ValueError: ``path`` lies outside the profile's output root.
    """
    relative = path.relative_to(output_root(profile))
    stage = os.environ.get("TSV_STAGE")
    target = Path(stage) / relative if stage else build() / "drafts" / relative if _is_draft(profile) else path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def tell_draft(path: Path, profile: str) -> None:
    """Say where ``path`` was written if that was a draft, and how it becomes what the checkout holds."""
    if _is_draft(profile):
        name = path.relative_to(ROOT).as_posix()
        sys.stderr.write(
            f"This is a draft: it went to build/drafts/{name}, and {name} is as it was. "
            f"To replace that, save the notebook and run `{command(name, profile)}`.\n"
        )


def command(target: str, profile: str, further_seeds: int = 0, part: str = "") -> str:
    """Return what to type to make ``target`` of a profile, with so many further seeds, where its files lie now.

    A ``part`` is that of the profile; where files of a part or of further seeds lie, it is told by the folder's name.
    """
    root = output_root(profile)
    of_root = _PART.fullmatch(root.name.removeprefix(profile))
    named = bool(of_root and of_root[0])
    seeds = f"-further_seeds-{further_seeds}" if further_seeds else ""
    found = of_root if named else _PART.fullmatch(f"{seeds}{part}")
    given = found.groupdict() if found else {}
    words = ["make", target]
    words += [f"PROFILE={profile}"] if profile != DEFAULT else []
    for variable, name in (("BACKBONES", "backbones"), ("SUITES", "suites"), ("FURTHER_SEEDS", "seeds")):
        words += [f"{variable}={given[name]}"] if given.get(name) else []
    words += [f"OUT={root}"] if root != _own_root(profile) and not named else []
    return shlex.join(words)


def _is_draft(profile: str) -> bool:
    """Tell whether whoever runs now has no runner and would write into the checkout."""
    return "TSV_STAGE" not in os.environ and output_root(profile) == ROOT


def _own_root(profile: str) -> Path:
    return build() / profile if profile == TEST else ROOT


def _given(variable: str) -> Path | None:
    folder = os.environ.get(variable)
    return Path(folder).resolve() if folder else None
