"""The documents name files that are there, their links lead somewhere, and the decisions keep their template."""

import re
from collections.abc import Iterator

import pytest

from testing.repository import ROOT

ARCHITECTURE = ROOT / "docs" / "architecture.md"
DECISIONS = ROOT / "docs" / "decisions"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)
ARCHITECTURE_LINES = 250  # ten minutes

_TOPS = "bench|config|connectors|daemon|docs|neva|scripts|systemd|testing|tests"
_PATH = re.compile(rf"(?<![\w/.~{{}}-])(?:{_TOPS})/[\w./-]*")
_PACKAGE_ROW = re.compile(r"^\| `([\w/]+)/` \|.*\| `(\w+\.py)` \|$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```.*?^```$|^    .*$", re.MULTILINE | re.DOTALL)


def text_of(document: str) -> str:
    return (ROOT / document).read_text()


def paths_in(text: str) -> set[str]:
    """Return the paths of this repository that a text names; the full stop that ends a sentence is none of them."""
    return {found.rstrip("./") for found in _PATH.findall(text)}


def packages() -> Iterator[str]:
    for top in ("connectors", "daemon", "neva"):
        for found in sorted((ROOT / top).rglob("__init__.py")):
            yield found.parent.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = _HEADING.findall(_BLOCK.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_is_there(document: str) -> None:
    gone = sorted(path for path in paths_in(text_of(document)) if not (ROOT / path).exists())

    assert not gone, f"{document} names what is not there: {', '.join(gone)}"


def test_every_package_is_in_the_map_with_the_file_to_read_first() -> None:
    rows = dict(_PACKAGE_ROW.findall(ARCHITECTURE.read_text()))
    gone = sorted(f"{package}/{first}" for package, first in rows.items() if not (ROOT / package / first).is_file())

    assert sorted(rows) == sorted(packages())
    assert not gone, f"the map names what is not there: {', '.join(gone)}"


def test_the_architecture_is_read_in_ten_minutes() -> None:
    assert len(ARCHITECTURE.read_text().splitlines()) <= ARCHITECTURE_LINES


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    broken = []
    for link in _LINK.findall(_BLOCK.sub("", text_of(document))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)

    assert not broken, f"links of {document} that lead nowhere: {', '.join(broken)}"


def test_the_decisions_are_numbered_without_holes_and_listed() -> None:
    pages = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    listed = re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", (DECISIONS / "README.md").read_text(), re.MULTILINE)

    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    assert listed == pages


@pytest.mark.parametrize("page", sorted(path.name for path in DECISIONS.glob("[0-9]*.md")))
def test_a_decision_keeps_the_template(page: str) -> None:
    text = (DECISIONS / page).read_text()
    title, status, *_ = (line for line in text.splitlines() if line)

    assert re.match(rf"# {int(page[:4])}\. \S", title)
    assert re.match(r"Status: (accepted|replaced by \d+)\.", status)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
