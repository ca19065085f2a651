"""What is certain of a statement, and what hangs on the order of rows or of keys. Pure.

PostgreSQL does not say in which order a statement meets its rows: what comes out differently in
another order is undefined. The order in which keys fire is that in which they were created.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fkdoctor.impact.firing import Event, Firing, FiringOrder
from fkdoctor.impact.model import Firings, Order, Outcome, run_delete
from fkdoctor.impact.world import Row, RowId, World
from fkdoctor.schema import ForeignKey, TableName

FEW, MANY = 2, 40
"""How many random orders are tried beside the physical one and its reverse."""


@dataclass(frozen=True, kw_only=True)
class KeyOrder:
    """Two keys on which it hangs what happens: `first` fires first, today.

    `reversed` is what would happen were they created the other way round, as they are after some
    dumps and restores.
    """

    first: ForeignKey
    second: ForeignKey
    reversed: Outcome


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What happens in physical order, the different things that happen in other orders of rows."""

    outcome: Outcome
    others: tuple[Outcome, ...]
    key_orders: tuple[KeyOrder, ...]


Statement = Callable[[Firings, Order], Outcome]


def forecast_delete(world: World, order: FiringOrder, rows: Sequence[Row]) -> Forecast:
    """What a DELETE of the rows does in every order."""
    return forecast(order, lambda firings, rows_order: run_delete(world, firings, rows, rows_order))


def forecast(order: FiringOrder, run: Statement, *, closely: bool = False) -> Forecast:
    """What the statement does in every order; `run` does it in one.

    Without contests few orders are tried, unless it is to be looked at `closely`.
    """
    outcome = run(order.on, sorted)
    number = MANY if outcome.contests or closely else FEW
    others = _run_in_orders(run, order.on, outcome, number)
    key_orders = []
    for pair in sorted(
        (pair for pair in outcome.contests if pair is not None),
        key=lambda pair: (pair[0].trigger, pair[1].trigger),
    ):
        swapped = _swap(order, *pair)
        reversed = run(swapped, sorted)
        known = {signature(outcome), *map(signature, others)}
        if signature(reversed) not in known:
            first, second = sorted(pair, key=lambda firing: firing.trigger.encode())
            key_orders.append(KeyOrder(first=first.key, second=second.key, reversed=reversed))
    return Forecast(outcome=outcome, others=tuple(others), key_orders=tuple(key_orders))


def signature(outcome: Outcome) -> object:
    """What of an outcome is seen from outside: that it fails, or what the rows have become."""
    if not outcome.passes:
        return None
    return frozenset(
        (row, None if written.image is None else frozenset(written.image.items()))
        for row, written in outcome.written.items()
    )


def _run_in_orders(
    run: Statement, firings: Firings, outcome: Outcome, number: int
) -> list[Outcome]:
    seen = {signature(outcome)}
    others = []
    for order in _orders(number):
        other = run(firings, order)
        if signature(other) not in seen:
            seen.add(signature(other))
            others.append(other)
    return others


def _orders(number: int) -> Iterator[Order]:
    yield lambda rows: sorted(rows, reverse=True)
    for seed in range(number):
        yield _Shuffle(seed)


class _Shuffle:
    """The rows of each statement in an order of its own, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, rows: list[RowId]) -> list[RowId]:
        shuffled = sorted(rows)
        self._random.shuffle(shuffled)
        return shuffled


def _swap(order: FiringOrder, one: Firing, other: Firing) -> Firings:
    """The order in which the two change places."""
    change = {one.trigger: other, other.trigger: one}

    def firings(table: TableName, event: Event) -> Sequence[Firing]:
        usual = order.on(table, event)
        if table != one.table or one not in usual or other not in usual:
            return usual
        return [change.get(firing.trigger, firing) for firing in usual]

    return firings
