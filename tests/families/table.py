"""The table of `docs/models.md`: what the tests of families found, a row each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from testing.repository import ROOT
from tests.families.family import Family

DOCUMENT = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- begin of the table that `make families` writes -->", "<!-- end of the table -->"
HEAD = (
    "| family | class | goes as | loads | plan = engine | runs on CPU | text = transformers' | mixed batches | CI |",
    "|---|---|---|---|---|---|---|---|---|",
)
COLUMNS = ("test_loads", "test_plans", "test_runs", "test_says", "test_batches")


@dataclass
class Found:
    """What came of a family's tests: for each column the outcome of its tests, and what was said of those skipped."""

    outcomes: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def cell(self, column: str) -> str:
        """Return what the table says in a column."""
        outcomes = self.outcomes.get(column, [])
        if not outcomes:
            return "-"
        if "failed" in outcomes:
            return f"**no**, {outcomes.count('failed')} of {len(outcomes)}" if len(outcomes) > 1 else "**no**"
        if set(outcomes) == {"skipped"}:
            reason = self.reasons.get(column, "")
            return "-" if reason in ("it does not load", "there is no engine to ask") else f"no: {reason}"
        return f"{len(outcomes)} shapes" if len(outcomes) > 1 else "yes"


def architecture_of(folder: Path) -> str:
    """Return the class that a model's configuration names."""
    return str(json.loads((folder / "config.json").read_text())["architectures"][0])


def row(family: Family, architecture: str, found: Found) -> str:
    """Return a family's row."""
    cells = [found.cell(column).replace("|", "\\|").replace("\n", " ") for column in COLUMNS]
    shown = [family.name, f"`{architecture}`", family.modality, *cells, "yes" if family.in_ci else "no"]
    return f"| {' | '.join(shown)} |"


def write(rows: Iterable[str]) -> None:
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", *HEAD, *rows, after]))


def families_in(text: str) -> list[str]:
    """Return the families that a document's table names."""
    lines = text[text.index(BEGIN) : text.index(END)].splitlines()
    return [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
