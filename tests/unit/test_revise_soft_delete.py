"""A soft delete as a line of a revision."""

from __future__ import annotations

import pytest

from fkdoctor.revise.operations import AddSoftDelete
from fkdoctor.revise.rendering import render_operation


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (AddSoftDelete(table="letter"), 'op.add_soft_delete("letter")'),
        (
            AddSoftDelete(table="letter", schema="mlops", unique_keys=()),
            'op.add_soft_delete("letter", schema="mlops", unique_keys=[])',
        ),
        (
            AddSoftDelete(table="letter", view="live", guard=True).reverse(),
            'op.drop_soft_delete("letter", view="live", guard=True)',
        ),
    ],
)
def test_it_is_rendered_without_what_goes_without_saying(
    operation: AddSoftDelete, line: str
) -> None:
    assert render_operation(operation) == line
    assert operation.reverse().reverse() == operation
