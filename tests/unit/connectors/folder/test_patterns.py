"""Patterns of clips: braces as in a shell, and what can never match is refused with the key's name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from connectors.folder.patterns import expand_braces, parse_pattern
from connectors.folder.settings import FolderSourceSettings
from connectors.tar.settings import TarSourceSettings
from daemon.config.file import settings_from


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [  # as bash has them
        ("a", ["a"]),
        ("{a,b}", ["a", "b"]),
        ("x{a,b}y", ["xay", "xby"]),
        ("{a,b}{c,d}", ["ac", "ad", "bc", "bd"]),
        ("{a,{b,c}d}", ["a", "bd", "cd"]),
        ("{,x}a", ["a", "xa"]),
        ("{a/b,c}/d", ["a/b/d", "c/d"]),
        ("{a}", ["{a}"]),
        ("{a{b,c}}", ["{ab}", "{ac}"]),
        ("a}", ["a}"]),
        ("{1..3}", ["1", "2", "3"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{08..10}", ["08", "09", "10"]),
        ("[{]", ["[{]"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "fits", "misses"),
    [
        ("**/*.{mp4,mkv}", ["a.mp4", "d/e/a.mkv"], ["a.avi", "a.{mp4,mkv}"]),
        ("{cam{1..2},door}/**/*.mp4", ["cam1/a.mp4", "door/x/a.mp4"], ["cam3/a.mp4"]),
        (r"a\{b\}.mp4", ["a{b}.mp4"], ["ab.mp4"]),
        (r"{a\,b,c}", ["a,b", "c"], ["a", "b"]),
        (r"a\*b\?\[1]", ["a*b?[1]"], ["axb?[1]", "a*bx[1]"]),
        (r"\\", ["\\"], ["a"]),
        ("*.[Mm][Pp]4", ["a.MP4", "a.mp4"], ["a.mkv"]),
    ],
)
def test_what_fits(pattern: str, fits: list[str], misses: list[str]) -> None:
    parsed = parse_pattern(pattern)

    assert [path for path in fits if not parsed.fits(path.split("/"))] == []
    assert [path for path in misses if parsed.fits(path.split("/"))] == []


NEVER = [
    *("**/", "a//b", "/srv/*.mp4", "../*", "a/../b", "./*.mp4", "{,a}/*.mp4", "*.mp4{,/}", "[z-a].mp4"),
    *("{a,b", "a{b,{c}", "a\\", "{1..100000}", "{a,b}" * 12, "{" * 60 + "}" * 60),
]
NEVER_IN_A_FOLDER = [
    *("done/*.mp4", "work/**", "{cam,failed}/*", ".hidden/*", "**/.*", "*.part", "**/*.{mp4,TMP}", "x.download/*"),
]


@pytest.mark.parametrize("pattern", NEVER)
def test_what_can_never_match_is_refused(pattern: str) -> None:
    for kind in (FolderSourceSettings, TarSourceSettings):
        with pytest.raises(ValidationError, match="pattern"):
            kind(path=Path("x"), pattern=pattern)


@pytest.mark.parametrize("pattern", NEVER_IN_A_FOLDER)
def test_names_that_a_folder_never_gives_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match="can never match"):
        FolderSourceSettings(path=Path("x"), pattern=pattern)
    TarSourceSettings(path=Path("x"), pattern=pattern)


def test_the_sentence_names_the_key(tmp_path: Path) -> None:
    values = {
        "sources": {"cam": {"kind": "folder", "path": "in", "pattern": "**/"}},
        "sink": {"kind": "folder", "path": "out"},
        "engine": {"kind": "fake"},
    }
    with pytest.raises(Exception, match=r"sources\.cam\.pattern: '\*\*/' can never match"):
        settings_from(values, folder=tmp_path)


@pytest.mark.parametrize("pattern", ["*.partly", "**/*.part1", "done*/*", "sub/done/*", "x.tmp.mp4"])
def test_names_that_only_look_alike_are_accepted(pattern: str) -> None:
    FolderSourceSettings(path=Path("x"), pattern=pattern)


@pytest.mark.parametrize("unfinished", [["*"], ["*", "*.part"], [""], ["a/b"], ["**"], ["{*,x}"], ["{a"]])
def test_a_list_of_unfinished_names_that_means_all_or_nothing_is_refused(unfinished: list[str]) -> None:
    with pytest.raises(ValidationError, match="unfinished"):
        FolderSourceSettings(path=Path("x"), unfinished=tuple(unfinished))
