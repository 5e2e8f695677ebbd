"""Run every family of models and write the table of `docs/models.md`: ``make families``.

Arguments are the names of tiny models: then only theirs are run, and the table is printed, not written. So it is with
``--ci``, which takes the families of CI that `make test` does not start.
"""

import sys
from typing import Any

import pytest

from tests.families.family import Family
from tests.families.registry import FAMILIES
from tests.families.table import HEAD, Found, row, write

ALL = "tests/families/test_families.py"


class Collector:
    """A plugin of pytest that keeps what the tests of families came to."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.architectures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        properties = dict(report.user_properties)
        if "family" not in properties or (report.when != "call" and report.outcome == "passed"):
            return
        found = self.found.setdefault(properties["family"], Found())
        self.architectures[properties["family"]] = properties["architecture"]
        column = report.nodeid.rpartition("::")[2].partition("[")[0]
        found.outcomes.setdefault(column, []).append(report.outcome)
        if report.outcome == "skipped":
            found.reasons[column] = str(report.longrepr[2]).removeprefix("Skipped: ")

    def row(self, family: Family) -> str:
        return row(family, self.architectures.get(family.name, "?"), self.found.get(family.name, Found()))


def main(models: list[str]) -> int:
    """Run the families; 0 where all is as their registry says."""
    if models == ["--ci"]:
        models = [one.model for one in FAMILIES if one.in_ci and not one.started_by]
    chosen = [one for one in FAMILIES if not models or one.model in models]
    modules = sorted({one.started_by or ALL for one in chosen})
    names = " or ".join(f"[{one.model}" for one in chosen)
    collector, failed = Collector(), 0
    for module in modules:  # one after the other: an engine is stopped before the next starts
        wanted = f"Family and ({names})" if models and module == ALL else "Family"
        failed |= int(pytest.main([module, "-q", "-k", wanted, "-p", "no:cacheprovider"], plugins=[collector]))
    rows = [collector.row(one) for one in chosen]
    print("\n".join([*HEAD, *rows]))
    if not models:
        write(rows)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
