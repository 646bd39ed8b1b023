# SPDX-License-Identifier: MIT
"""How much the choice of alpha matters on validation inputs: for subsets of tasks, and over whole grids."""

from collections.abc import Mapping
from functools import partial

from compendium import published
from compendium.profiles import Profile
from compendium.study import studies
from compendium.study.evaluation import Candidate, Hits, packed, shares
from compendium.study.runs import Row, Run
from compendium.worlds import protocol
from tsvlib.methods import named
from tsvlib.methods.base import Method
from tsvlib.search import best_alpha

SCORE = "mean over tasks of accuracy / accuracy of the expert, on validation inputs, equally many of each task"
INDIVIDUAL = "individual"
SUBSET_COLUMNS = {
    "backbone": "model that was fine-tuned",
    "seed": "seed of the experts' fine-tuning",
    "subset": "number of the paper's subset (App. B.2), whose tasks are those at the same places of the fixed order",
    "n_tasks": "number of tasks that were merged",
    "method": f"what the encoder's weights are: the merged model, or as '{INDIVIDUAL}' the expert of the task",
    "task": "task that was measured",
    "step": "place of alpha in the grid of the method, from 1; 0 for an expert",
    "alpha": "scaling coefficient of the update; 1 for an expert, whose update is its task vector",
    "accuracy": "share of correct validation inputs in [0, 1], of all of the task",
    "hits": studies.HITS,
}
GRID_COLUMNS = {key: studies.COLUMNS[key] for key in ("backbone", "n_tasks", "method", "seed")} | {
    "step": "place of alpha in the grid of the method, from 1",
    "metric": "kind of the value",
    "value": f"alpha: scaling coefficient of the update; score: {SCORE}; visit: when the search scored this alpha, "
    "from 1, or 0 where it did not",
}


def subsets(profile: Profile, backbone: str) -> dict[int, tuple[str, ...]]:
    """Return the tasks of each subset that Figure 7 shows for a backbone, by its number.

    They are the profile's tasks at the places of the paper's. A profile with fewer tasks leaves out what it lacks,
    and subsets of which less than two tasks remain.
    """
    shown, members = published.load("alpha"), published.load("alpha_subsets")
    places = published.load("data_sets").set_index("task").place
    ours = dict(enumerate(protocol.suite(profile, profile.tasks), start=1))
    found = {
        int(subset): tuple(ours[place] for place in places[members.task[members.subset == subset]] if place in ours)
        for subset in shown.subset[shown.backbone == profile.backbone(backbone).counterpart].unique()
    }
    return {subset: tasks for subset, tasks in found.items() if len(tasks) > 1}


def over_subset(run: Run, subset: int) -> list[Row]:
    """Return what TSV-M for one subset of tasks has right with each alpha of Figure 7, and what the experts have."""
    method, alphas = named("tsv_m"), set(published.load("alpha").alpha)
    tasks = subsets(run.profile, run.backbone)[subset]
    update = run.merged_from(method, tasks)

    def rows(name: str, step: int, alpha: float, hits: Mapping[str, Hits]) -> list[Row]:
        place: Row = {"backbone": run.backbone, "seed": run.seed, "subset": subset, "n_tasks": len(tasks)}
        return [
            place
            | {"method": name, "task": task, "step": step, "alpha": alpha}
            | {"accuracy": accuracy, "hits": packed(hits[task])}
            for task, accuracy in shares(hits).items()
        ]

    steps = {step: alpha for step, alpha in enumerate(method.alphas, start=1) if alpha in alphas}
    scaled = [Candidate(partial(update.apply, run.evaluator.base, alpha), tasks) for alpha in steps.values()]
    measured = run.measured_with_experts(scaled, "validation", tasks)
    found = rows(INDIVIDUAL, 0, 1.0, run.individual("validation", tasks))
    for (step, alpha), hits in zip(steps.items(), measured, strict=True):
        found += rows(method.name, step, alpha, hits)
    return found


def over_grid(run: Run, n_tasks: int, method: Method) -> list[Row]:
    """Return the score of every alpha of a method for the first ``n_tasks`` tasks, and when the search asks for it."""
    tasks = run.tasks(n_tasks)
    judged = studies.validation_scores(run, run.merged(method, n_tasks), tasks)(method.alphas)
    scores = dict(zip(method.alphas, judged, strict=True))
    asked: list[float] = []

    def noted(alpha: float) -> float:
        asked.append(alpha)
        return scores[alpha]

    best_alpha(noted, method.alphas)
    place: Row = {"backbone": run.backbone, "n_tasks": n_tasks, "method": method.name, "seed": run.seed}
    return [
        place | {"step": step, "metric": metric, "value": value}
        for step, alpha in enumerate(method.alphas, start=1)
        for metric, value in (
            ("alpha", alpha),
            ("score", scores[alpha]),
            ("visit", float(1 + asked.index(alpha) if alpha in asked else 0)),
        )
    ]
