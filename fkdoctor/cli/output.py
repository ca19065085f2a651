"""stdout: in colours on a terminal only, and in characters that it can show."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fkdoctor.render.encoding import fit_encoding

Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(*formats: str) -> Callable[[Command], Command]:
    """A decorator that adds --format with these choices, handed on as `output_format`.

    The first one is the default.
    """
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
    )


def wants_colour() -> bool:
    """Whether stdout is a terminal whose owner has not set NO_COLOR (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def terminal_width() -> int | None:
    """How many columns the terminal has; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write(text: str) -> None:
    """Write the text as it is, but for characters that stdout's encoding lacks."""
    click.echo(fit_encoding(text, sys.stdout.encoding or "utf-8"), nl=False, color=wants_colour())
