"""Random schemas: the preview, the closure alone and the model against PostgreSQL's own DELETE.

Seeded. FKDOCTOR_EXAMPLES draws more of them; oracle.py runs one again, or any number.
"""

from __future__ import annotations

import os
from collections import Counter

from oracle import compare_cases, compare_truncates, show

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.impact.effect import Verdict

SEED = 20
EXAMPLES = int(os.environ.get("FKDOCTOR_EXAMPLES", "120"))


def test_every_preview_is_what_the_delete_then_does(database_url: str) -> None:
    verdicts: Counter[Verdict] = Counter()
    with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
        for one in compare_cases(connection, SEED, range(EXAMPLES)):
            assert not one.wrong, f"seed {SEED}\n{show(one)}"
            verdicts[one.impact.verdict] += 1
    # A preview that says too little is not wrong, and of no use.
    assert verdicts[Verdict.UNCERTAIN] <= max(EXAMPLES / 50, 2)
    for verdict in (Verdict.ALLOWED, Verdict.BLOCKED, Verdict.BLOCKED_AT_COMMIT, Verdict.FAILS):
        assert verdicts[verdict], verdict


def test_every_preview_of_an_update_is_what_it_then_does(database_url: str) -> None:
    answered = 0
    with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
        for one in compare_cases(connection, SEED, range(EXAMPLES // 3), updates=True):
            assert not one.wrong, f"seed {SEED}\n{show(one)}"
            answered += one.impact.verdict is not Verdict.UNCERTAIN
    assert answered >= EXAMPLES / 5


def test_every_preview_of_a_truncate_is_what_it_then_does(database_url: str) -> None:
    verdicts: Counter[Verdict] = Counter()
    with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
        for one in compare_truncates(connection, SEED, range(EXAMPLES // 3)):
            assert not one.wrong, f"seed {SEED}\n{show(one)}"
            verdicts[one.impact.verdict] += 1
    assert verdicts[Verdict.ALLOWED]
    assert verdicts[Verdict.BLOCKED]
