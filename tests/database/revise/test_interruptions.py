"""Random originals: an operation that is cut off or killed anywhere ends as if it had not been.

Seeded. FKDOCTOR_EXAMPLES draws more of them; interruptions.py runs one again, or any number.
"""

from __future__ import annotations

import os
import random

from interruptions import Trial
from originals import draw_original

SEED = 4
EXAMPLES = int(os.environ.get("FKDOCTOR_EXAMPLES", "120")) // 20


def test_a_connection_that_is_cut_anywhere_makes_no_difference(database_url: str) -> None:
    trial = Trial(database_url)
    for number in range(EXAMPLES):
        original = draw_original(SEED, number, trial.major)
        try:
            trial.check(original, random.Random(number), cuts=2)
        except AssertionError as problem:
            raise AssertionError(f"{original}\n{problem}") from problem
    assert trial.tally["changed something"] >= EXAMPLES / 2
    assert trial.tally["cut there"] >= EXAMPLES / 2
    assert trial.tally["cut back"] >= EXAMPLES / 2


def test_kill_9_of_alembic_makes_no_difference(database_url: str) -> None:
    trial = Trial(database_url)
    for number in range(max(EXAMPLES // 6, 1)):
        original = draw_original(SEED + 1, number, trial.major)
        try:
            trial.kill(original, random.Random(number), kills=3)
        except AssertionError as problem:
            raise AssertionError(f"{original}\n{problem}") from problem
    assert trial.tally["upgrade killed"] + trial.tally["downgrade killed"] > 0
