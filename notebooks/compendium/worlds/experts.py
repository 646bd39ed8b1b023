# SPDX-License-Identifier: MIT
"""The inventory of experts: where each one lies, which recipe it must have, training of what is missing.

``python -m compendium check-experts`` runs before every build and must not pay for importing
torch, so the modules that need it are imported inside the functions that use them.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compendium import manifests, paths, profiles, provenance
from compendium.profiles import Profile
from tsvlib import files, progress
from tsvlib.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CONTINUE = "make sure that there is enough memory, then run the command again to continue"
WORTH_A_POOL = 20_000
"""Training images below which starting worker processes takes longer than they save."""


@dataclasses.dataclass(frozen=True, order=True)
class Expert:
    """One fine-tuned model: a backbone, the task it was trained on, the seed of its training."""

    backbone: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """The stem of the expert's file."""
        return f"{self.backbone}__{self.task}__{self.seed}"


Job = tuple[Expert, dict[str, Any]]
"""An expert to train and its recipe: all that decides its bytes."""


def folder(profile: Profile) -> Path:
    """Return the folder of a profile's expert files."""
    return paths.cache(profile.name) / "experts"


def path(profile: Profile, expert: Expert) -> Path:
    """Return the file of one expert."""
    return folder(profile) / f"{expert.name}.safetensors"


def manifest_file(profile: Profile) -> Path:
    """Return the file that lists every expert of the profile with the sha256 of its file, once all are finished."""
    further = _further_seeds(profile)
    return paths.cache(profile.name) / (f"experts-further_seeds-{further}.json" if further else "experts.json")


def first_suite_file(profile: Profile) -> Path:
    """Return the file that does so for the experts of the first suite, which are all that the tour needs."""
    return paths.cache(profile.name) / "experts-first_suite.json"


def inventory(profile: Profile) -> tuple[Expert, ...]:
    """Return every expert of the profile."""
    from compendium.worlds.mini import datasets

    return tuple(
        Expert(backbone.name, task, seed)
        for backbone in profile.backbones
        for seed in backbone.seeds
        for task in datasets.suite(profile.tasks)
    )


def load(profile: Profile, backbone: str, task: str, seed: int) -> "dict[str, Tensor]":
    """Return an expert's parameters (``visual.*``, float32); a missing or broken file is an InputError."""
    from tsvlib import checkpoints

    file = path(profile, Expert(backbone, task, seed))
    state = checkpoints.load(file, _remedy(profile, "train it again" if file.exists() else "train it"))
    provenance.note(file)
    return state


def check(profile: Profile) -> None:
    """Compare every file that a list names with its sha256; the first missing or changed one is an InputError.

    Without a list there is nothing to compare: the experts were never finished.
    """
    manifests.check(_manifests(profile), folder(profile), _remedy(profile, "train it again"))


def train_all(profile: Profile) -> tuple[Expert, ...]:
    """Train every expert that is missing, broken or of another recipe, then list all; return them."""
    return _train_listed(profile, manifest_file(profile))


def train_first_suite(profile: Profile) -> tuple[Expert, ...]:
    """Do as :func:`train_all` for the experts of the first suite alone, a small part of all."""
    return _train_listed(profile.first_suite(), first_suite_file(profile))


def _train_listed(profile: Profile, manifest: Path) -> tuple[Expert, ...]:
    """Train what is missing, then write the list ``manifest`` of all experts of the profile, and return them.

    Each finished expert is kept at once, so an interrupted call continues where it was. A list is removed while one of
    its experts is being replaced: its absence is what tells ``make`` that the work is not complete.
    """
    wanted = inventory(profile)
    pending = [job for job in _recipes(profile, wanted) if not _is_current(path(profile, job[0]), job[1])]
    if pending:
        manifest.unlink(missing_ok=True)
        manifests.withdraw(_manifests(profile), {expert.name for expert, _ in pending})
        _train(profile, pending)
    manifests.write(manifest, [path(profile, expert) for expert in wanted])
    return wanted


def _remedy(profile: Profile, end: str) -> str:
    return f"run `{paths.command('experts', profile.name, _further_seeds(profile))}` to {end}"


def _further_seeds(profile: Profile) -> int:
    """Return how many seeds more than its file states the profile has for every backbone."""
    first = profile.backbones[0]
    return max(0, len(first.seeds) - len(profiles.load(profile.name).backbone(first.name).seeds))


def _manifests(profile: Profile) -> list[Path]:
    """Return every list of finished experts that the profile has."""
    return sorted(paths.cache(profile.name).glob("experts*.json"))


def _recipes(profile: Profile, wanted: Sequence[Expert]) -> Iterator[Job]:
    """Yield each expert with all that decides its bytes: base, data, hyperparameters, seed and code."""
    from compendium.worlds.mini import datasets, models, training
    from tsvlib import checkpoints

    code = {Path(str(module.__file__)).name: files.sha256(Path(str(module.__file__))) for module in (models, training)}
    bases = {
        backbone: checkpoints.state_digest(models.load_base(profile.name, backbone).state_dict())
        for backbone in {expert.backbone for expert in wanted}
    }
    data = {}
    tasks = sorted({expert.task for expert in wanted})
    with progress.track(len(tasks), f"drawing {profile.name} tasks") as bar:
        for task in tasks:
            data[task] = datasets.digest(profile, task, "train")
            bar.update()
    for expert in wanted:
        yield (
            expert,
            {
                "backbone": expert.backbone,
                "base": bases[expert.backbone],
                "task": expert.task,
                "data": data[expert.task],
                "seed": expert.seed,
                "finetuning": dataclasses.asdict(profile.finetuning),
            }
            | code,
        )


def _is_current(file: Path, recipe: dict[str, Any]) -> bool:
    """Tell whether an expert's file is complete, undamaged and of this recipe."""
    from tsvlib import checkpoints

    if not file.is_file():
        return False
    try:
        if checkpoints.recipe(file) != recipe:
            return False
        checkpoints.verify(file)
    except InputError:
        return False
    return True


def _train(profile: Profile, pending: Sequence[Job]) -> None:
    """Train experts, in worker processes of one thread each where that is worth starting them."""
    images = len(pending) * profile.images.train * profile.finetuning.epochs
    train = _train_in_pool if images > WORTH_A_POOL else _train_here
    with progress.track(len(pending), f"fine-tuning {profile.name} experts") as bar:
        for _ in train(profile, pending):
            bar.update()


def _train_here(profile: Profile, pending: Sequence[Job]) -> Iterator[None]:
    for expert, recipe in pending:
        _train_one(profile, expert, recipe)
        yield


def _train_in_pool(profile: Profile, pending: Sequence[Job]) -> Iterator[None]:
    """Yield after each finished expert; leave no worker behind, whether by an error, Ctrl-C or SIGKILL."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_start_worker) as pool:
        try:
            for job in as_completed([pool.submit(_train_one, profile, *job) for job in pending]):
                yield job.result()
        except BrokenProcessPool as error:
            raise InputError(f"a process that fine-tunes {profile.name} experts was killed; {CONTINUE}.") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _train_one(profile: Profile, expert: Expert, recipe: dict[str, Any]) -> None:
    from compendium.worlds.mini import datasets, models, training
    from tsvlib import checkpoints

    base = models.load_base(profile.name, expert.backbone)
    task = datasets.TASKS[expert.task]
    data = datasets.cached(profile, expert.task, "train")
    head = models.zero_shot_head(base, task.classes, task.templates)
    state = training.finetune(base, head, data.images, data.labels, profile.finetuning, expert.seed)
    checkpoints.save(path(profile, expert), state, recipe)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
