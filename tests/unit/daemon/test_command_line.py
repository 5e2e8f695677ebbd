"""The command line: its version, and the exit codes of what is typed wrong."""

import pytest

from connectors.errors import ExitCode
from daemon import __main__ as command_line
from daemon import __version__


def captiond(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Run the program with these arguments; return its exit code."""
    monkeypatch.setattr("sys.argv", ["captiond", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return ended.value.code


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_the_version_is_a_command_and_an_option(
    asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert captiond(monkeypatch, asked) == ExitCode.CLEAN
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("describe",), "No such command 'describe'"),
        (("plan", "/nowhere/clip.mp4"), "/nowhere/clip.mp4 is not a file."),
        (("schema", "window"), "no schema 'window': there are caption, rejection, reference."),
    ],
)
def test_what_is_typed_wrong_is_said(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert captiond(monkeypatch, *arguments) == ExitCode.USAGE
    assert says in capsys.readouterr().err


def test_what_nobody_foresaw_is_a_bug_with_its_stack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unforeseen() -> None:
        raise RecursionError("nobody foresaw it")

    monkeypatch.setattr("connectors.messages.schema.schemas", unforeseen)

    assert captiond(monkeypatch, "schema") == ExitCode.BUG
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("captiond: this is a bug: the lines above belong in its report.\n")
