# SPDX-License-Identifier: MIT
"""Names of tensors with and without what wrappers put before or between them, seen from the names of the base."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a name that stand for a wrapper of PyTorch (data parallel, compiled, sharded, checkpointed) and no layer."""

_USUAL = ("module.", "_orig_mod.", "model.", "teacher.")
"""What names begin with of which one prefix is read, where several would do."""


def aligned(own: AbstractSet[str], base: AbstractSet[str]) -> dict[str, str]:
    """Return a model's own names by those that the base has for the same tensors.

    What both have under one name is the same. Of other names, wrappers are taken out; one prefix, whatever it is, may
    be taken off or put before them, if most names of the smaller model are found so. A tensor that the base lacks has
    the name that it would have there.

    >>> aligned({"module.proj", "module.head"}, {"proj", "bias"})
    {'head': 'module.head', 'proj': 'module.proj'}
    >>> aligned({"layer.weight"}, {"model.layer.weight", "lm_head.weight"})
    {'model.layer.weight': 'layer.weight'}
    """
    found = {key: key for key in sorted(own & base)}
    others = sorted(own - base)
    if not others or len(found) == len(base):
        return found | {key: key for key in others}
    names = _read(others, own, base)
    if not any(name in base and name not in found for name in names.values()):
        names = {}
    for key in others:
        name = names.get(key, key)
        found[key if name in found else name] = key
    return found


def told(renamed: Mapping[str, str]) -> str:
    """Return a sentence about own names by those of the base, or nothing where they are the same."""
    other = [(own, name) for name, own in renamed.items() if own != name]
    if not other:
        return ""
    own, name = min(other)
    more = len(other) - 1
    rest = f", and {more} more name{'s' * (more > 1)} likewise" if more else ""
    return f"`{own}` is read as `{name}`{rest}"


def _read(others: Sequence[str], own: AbstractSet[str], base: AbstractSet[str]) -> dict[str, str]:
    """Return the names of ``others`` as the base would have them."""
    bare = _without_wrappers(own)
    wrapped = {bare_name: name for name, bare_name in _without_wrappers(base).items()}
    off, before = _prefix(set(bare.values()), wrapped.keys())
    found = {}
    for key in others:
        name = bare[key]
        read = name.removeprefix(off) if name not in wrapped else name
        if before and name not in wrapped:
            read = f"{before}{name}"
        found[key] = wrapped.get(read, read)
    return found


def _without_wrappers(names: AbstractSet[str]) -> dict[str, str]:
    """Return names without wrappers, or as they are where two of them would become one."""
    bare = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) or name for name in names}
    return bare if len(set(bare.values())) == len(bare) else {name: name for name in names}


def _prefix(own: AbstractSet[str], base: AbstractSet[str]) -> tuple[str, str]:
    """Return what to take off own names, or what to put before them, so that most are those of the base."""
    off, before = _counted(own, base), _counted(base, own)
    most = max((*off.values(), *before.values()), default=0)
    if most <= len(own & base) or 2 * most < min(len(own), len(base)):
        return "", ""
    choices = [(prefix, "") for prefix, count in off.items() if count == most]
    choices += [("", prefix) for prefix, count in before.items() if count == most]
    usual = [choice for prefix in _USUAL for choice in choices if prefix in choice]
    # One of several unknown ones, such as those of two models in one file, would be a guess.
    return usual[0] if usual else choices[0] if len(choices) == 1 else ("", "")


def _counted(longer: Collection[str], shorter: AbstractSet[str]) -> Counter[str]:
    """Return how many of the longer names are a shorter one behind each prefix."""
    return Counter(name[: -len(rest)] for name in longer for rest in _endings(name) if rest in shorter)


def _endings(name: str) -> Iterator[str]:
    place = name.find(".")
    while place >= 0:
        yield name[place + 1 :]
        place = name.find(".", place + 1)
