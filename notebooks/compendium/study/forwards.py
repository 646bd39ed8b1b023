# SPDX-License-Identifier: MIT
"""How many inputs pass through the encoders when all notebooks run: what the time of a run goes by."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from compendium import published
from compendium.profiles import Backbone, Profile
from compendium.study import alpha, studies
from compendium.study.adaptation import PROTOCOL
from compendium.worlds.protocol import SplitName, World, suite
from tsvlib.methods import UPDATES

SEARCH = 10
"""Alphas that a search on a grid of thirty scores at most."""

BACKWARD = 3
"""What a step of test-time adaptation takes for each input, in passes forward: it goes backward, too."""

TOUR = 6
"""Models that the tour measures on validation inputs and no other notebook does: the base and merged ones."""


@runtime_checkable
class SizedWorld(World, Protocol):
    """A world that tells how much there is to encode before it is there."""

    def count(self, task: str, name: SplitName) -> int:
        """Return how many inputs a split has."""

    def operations(self, backbone: str) -> int:
        """Return how many additions and multiplications an input takes on its way through an encoder."""


def forwards(profile: Profile, world: SizedWorld) -> dict[str, int]:
    """Return how many inputs pass through the encoder of each backbone at most, nothing being kept from before.

    With V and T for all validation and test inputs of the tasks at hand, and S for those validation inputs by which an
    alpha is judged, every seed of a backbone takes

    - all tasks: V + T for experts (10), T for each share of components (11); of the first seed T for the base,
    - each suite (13): 30 S for three searches of at most ten alphas, 4 T for what these and averaging give, T for
      TSV-M with alpha = 1, and V for each lambda of Consensus TA,
    - each suite (14): 2 T for TSV-C and TALL masks, and V for each lambda of these;

    the first seed of each backbone on top

    - each suite: 40 S + 4 T for TIES and Iso-C (13) and for both halves of TSV-M (15),
    - each subset of Figure 7 (16): V for each of its alphas;

    and the first seed of the first backbone, on the first suite

    - 40 S for whole grids of two methods beside what their searches have scored (16), 6 V for the tour (00),
    - for each form of test-time adaptation (17): 2 V + 2 T, and every step three times its inputs.

    Predictions are kept, so what several notebooks ask for counts once.
    """
    return {backbone.name: _Counting(profile, world, backbone).whole() for backbone in profile.backbones}


def alphas() -> int:
    """Return how many alphas Figure 7 has."""
    return len(set(published.load("alpha").alpha) & set(UPDATES["tsv_m"].alphas))


class _Counting:
    """The same for one backbone."""

    def __init__(self, profile: Profile, world: SizedWorld, backbone: Backbone) -> None:
        self.profile, self.world, self.backbone = profile, world, backbone
        self.all = suite(profile, profile.tasks)
        self.suites = [suite(profile, n_tasks) for n_tasks in profile.suites]
        self.is_first = backbone == profile.backbones[0]

    def whole(self) -> int:
        first = self._first_seed() + self._first_backbone() * self.is_first
        return first + len(self.backbone.seeds) * self._every_seed()

    def _every_seed(self) -> int:
        lambdas, fractions = len(self.profile.lambdas), len(self.profile.fractions)
        found = self._inputs("validation", self.all) + (1 + fractions) * self._inputs("test", self.all)
        for tasks in self.suites:
            found += 3 * SEARCH * self._judging(tasks) + 2 * lambdas * self._inputs("validation", tasks)
            found += (4 + 1 + 2) * self._inputs("test", tasks)
        return found

    def _first_seed(self) -> int:
        subsets = alpha.subsets(self.profile, self.backbone.name).values()
        found = self._inputs("test", self.all)
        found += sum(4 * (SEARCH * self._judging(tasks) + self._inputs("test", tasks)) for tasks in self.suites)
        return found + alphas() * sum(self._inputs("validation", tasks) for tasks in subsets)

    def _first_backbone(self) -> int:
        tasks, forms = self.suites[0], len(studies.STARTS)
        grids = sum(len(UPDATES[name].alphas) - SEARCH for name in ("task_arithmetic", "tsv_m"))
        steps = BACKWARD * PROTOCOL.steps * PROTOCOL.batch * len(tasks)
        found = grids * self._judging(tasks) + TOUR * self._inputs("validation", tasks)
        return found + forms * (2 * self._inputs("validation", tasks) + 2 * self._inputs("test", tasks) + steps)

    def _inputs(self, name: SplitName, tasks: Sequence[str]) -> int:
        return sum(self.world.count(task, name) for task in tasks)

    def _judging(self, tasks: Sequence[str]) -> int:
        most = self.profile.samples.alpha // len(tasks)
        return sum(min(most, self.world.count(task, "validation")) for task in tasks)
