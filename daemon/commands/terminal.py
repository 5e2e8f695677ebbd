"""A person's terminal: everything that the commands print goes through here, so that it is shown and not obeyed.

A caption, the name of a file, a codec's name, an error's words: any of them may have been chosen by a stranger. Where
they hold control characters, or characters that turn the writing direction, their codes are shown.
"""

import sys
from typing import IO, TYPE_CHECKING

from connectors.messages.safe_text import escaped, escaped_json, escaped_lines
from connectors.messages.url_secrets import mask_urls

if TYPE_CHECKING:  # most of what is printed is none of rich's
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_WIDEST = 100_000  # columns of a table in a pipe: wider than any name


def say(text: str, *, to: "Console | None" = None, style: str | None = None) -> None:
    """Print a text as it is, without its markup or emoji codes meaning anything."""
    _print(escaped(text), to or _console(), style)


def say_beside(label: str, text: str, *, to: "Console", style: str) -> None:
    """Print a label in a style and a text beside it; the text's further lines stand below its first."""
    to.print(f"{escaped(label)}  ", style=style, end="", highlight=False, markup=False, emoji=False)
    _print(escaped_lines(text, " " * (len(label) + 2)), to, None)


def complain(text: str, *, style: str | None = None, has_lines: bool = False) -> None:
    """Print an error on standard error, its URLs without their secrets; with ``has_lines`` its lines stay lines."""
    masked = mask_urls(text)
    _print(escaped_lines(masked) if has_lines else escaped(masked), _console(stderr=True), style)


def say_lines(text: str) -> None:
    """Print a text of several lines that a program may read, such as YAML or WebVTT."""
    sys.stdout.write(escaped_lines(text) + "\n")
    sys.stdout.flush()


def say_json(text: str) -> None:
    """Print JSON; it stays the same JSON."""
    sys.stdout.write(escaped_json(text) + "\n")
    sys.stdout.flush()


def cell(text: object) -> "Text":
    """Return a cell of a table."""
    from rich.text import Text

    return Text(escaped(str(text)))


def show_table(table: "Table", *, to: "Console") -> None:
    """Print a table, whose cells from outside are made by :func:`cell`; in a pipe it is as wide as its cells."""
    from rich.measure import Measurement

    if not to.file.isatty():
        wide = to.options.update(width=_WIDEST, max_width=_WIDEST)
        to = _console(file=to.file, width=max(to.width, Measurement.get(to, wide, table).maximum))
    to.print(table)


def _console(*, file: IO[str] | None = None, stderr: bool = False, width: int | None = None) -> "Console":
    from rich.console import Console

    return Console(file=file, stderr=stderr, width=width)


def _print(text: str, to: "Console", style: str | None) -> None:
    to.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)
