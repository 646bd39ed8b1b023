# SPDX-License-Identifier: MIT
"""Numbers of images, lambdas, steps and seeds in prose are those of the profile and of the code."""

import re

import pytest

from compendium import paths, profiles
from compendium.paper import errors
from compendium.study import adaptation

MINI = profiles.load("mini")
SAMPLES = MINI.samples
PAGE = " ".join((paths.ROOT / "data" / "mini" / "README.md").read_text(encoding="utf-8").split())
LEDGER = " ".join((paths.ROOT / "notebooks" / "41_claims.py").read_text(encoding="utf-8").replace("\n# ", " ").split())
ADAPTED = adaptation.PROTOCOL
STEPS = f"{ADAPTED.steps} steps"


def listed(numbers) -> str:
    """Return numbers as prose has them: 1, 2 and 3."""
    *most, last = (f"{number:g}" for number in numbers)
    return f"{', '.join(most)} and {last}"


@pytest.mark.parametrize(
    "words",
    [
        f"Suites are the first {listed(MINI.suites)} tasks",
        f"{SAMPLES.train:,} for training, {SAMPLES.validation:,} for validation, {SAMPLES.test:,} for the test",
        f"on {SAMPLES.alpha:,} validation images of a suite",
        f"({listed(SAMPLES.alpha // suite for suite in MINI.suites)} of each at {listed(MINI.suites)} tasks)",
        f"lambda from {listed(MINI.lambdas)} for each task",
        f"{listed(round(100 * share) for share in MINI.fractions)} % of the components",
        f"{STEPS} at learning rate {ADAPTED.learning_rate}, {ADAPTED.batch} images of every task",
        f"at least {errors.FEW} stand behind each validation and test split",
    ],
)
def test_the_page_of_the_mini_world_states_the_numbers_of_its_profile(words):
    assert words in PAGE


def test_the_ledger_states_how_many_seeds_of_the_bootstrap_must_agree():
    assert len(errors.SEEDS) == 10
    assert "ten seeds of the bootstrap" in LEDGER


def test_notebooks_state_steps_rates_and_images_of_adaptation_as_the_code_has_them():
    text = (paths.ROOT / "notebooks" / "17_test_time.py").read_text(encoding="utf-8").replace("\n# ", " ")
    assert f"{STEPS} of Adam at learning rate {ADAPTED.learning_rate}, {ADAPTED.batch} validation inputs" in text


@pytest.mark.parametrize("source", sorted((paths.ROOT / "notebooks").glob("[123]*.py")), ids=lambda source: source.stem)
def test_prose_of_notebooks_states_no_number_of_images_lambdas_or_seeds_of_its_own(source):
    prose = " ".join(line[2:] for line in source.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    found = re.findall(r"\b\d[\d,.]* (?:test |validation |training )?(?:images|inputs|seeds|lambdas)\b", prose)
    assert set(found) <= {f"{ADAPTED.batch} validation inputs"}, "let code print what the profile decides"
