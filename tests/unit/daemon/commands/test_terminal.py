"""Captions, names and answers that a stranger chose, as the commands print them: a terminal shows and never obeys."""

import ast
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from connectors.contract import Caption, CaptionStatus, Clip, Delivery, Progress, Rejection, WindowSpan
from connectors.media.bytes import BytesMedia
from daemon import __main__ as command_line
from daemon.commands import status
from daemon.commands.caption import CaptionPrinter
from daemon.commands.check import print_check
from daemon.commands.terminal import cell, show_table
from daemon.config.file import settings_from
from testing.repository import ROOT
from tests.unit.daemon.running_parts import Parts

HOSTILE = "a\x1b[2J\x1b]52;c;cm0=\x07\x9b31m\u202eb\u2066\rc\x7f\u2028"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SPAN = WindowSpan(0, 0, 1_000_000_000)


def progress(text: str = HOSTILE, name: str = HOSTILE) -> Progress:
    """Return a clip's caption and its rejection, of a name and a text that nobody trusts."""
    delivery = Delivery(Clip("id", "terminal", BytesMedia(name, b"x"), 0))
    caption = Caption("i", "id", "terminal", SPAN, text, CaptionStatus.SUCCESS, "m", "p", "h")
    rejection = Rejection("id", "terminal", "corrupt", HOSTILE, "sampler")
    return Progress(delivery, [caption], 1, "h", last=True, rejection=rejection)


@pytest.mark.parametrize("form", ["text", "json", "vtt"])
def test_a_caption_can_not_control_the_terminal(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    states: list[str] = []
    printer = CaptionPrinter(form, Console(width=200), states.append)

    printer(progress())

    printed = capsys.readouterr().out
    assert printed
    assert UNSAFE.search(printed) is None


def test_nothing_of_a_caption_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    CaptionPrinter("text", Console(width=200), lambda _: None)(progress("\x1b[2J :smile: [red]x[/red]"))

    assert r"\x1b[2J :smile: [red]x[/red]" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["text", "vtt"])
def test_a_caption_in_a_pipe_is_the_model_s_words_whole(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ":warning: [bold]three[/bold] {x}  signs, " * 40 + "\u00a0\u202fend"

    CaptionPrinter(form, Console(), lambda _: None)(progress(words, "a  b\u202f " * 20 + ".mp4"))

    printed = capsys.readouterr().out
    assert words in printed
    assert form == "vtt" or "a  b\u202f " * 20 + ".mp4\n" in printed


def test_a_table_in_a_pipe_loses_no_name() -> None:
    name, out = "a  long " * 40, io.StringIO()
    table = Table("name", "more")
    table.add_row(cell(name), cell("x" * 90))

    show_table(table, to=Console(file=out))

    assert name in out.getvalue()
    assert "x" * 90 in out.getvalue()


def test_json_means_what_it_meant(capsys: pytest.CaptureFixture[str]) -> None:
    CaptionPrinter("json", Console(), lambda _: None)(progress("marks \u200e stay"))

    caption = json.loads(capsys.readouterr().out.splitlines()[0])
    assert caption["text"] == "marks \u200e stay"


def test_lines_of_a_caption_can_not_pass_for_other_captions(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "a dog\n  00:00:01.000 - 00:00:02.000  a cat\nb.mp4"
    CaptionPrinter("text", Console(width=200), lambda _: None)(progress(forged, "a.mp4"))

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["a.mp4", "  00:00:00.000 - 00:00:01.000  a dog"]
    assert all(line.startswith(" " * 31) for line in lines[2:])


def test_a_daemon_that_answers_anything_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = Parts().health.snapshot()
    found |= {"model": HOSTILE, "why_not_ready": HOSTILE, "last_reload": HOSTILE, "version": HOSTILE}
    found |= {"sources": {HOSTILE: found["sources"]["inbox"]}, "restarts": {HOSTILE: 3}}

    status.print_status(found, Console(width=200))

    assert UNSAFE.search(capsys.readouterr().out) is None


def test_a_cell_has_no_markup() -> None:
    table, out = Table("name"), io.StringIO()
    table.add_row(cell("[bold]x[/bold] :smile: \x1b"))
    show_table(table, to=Console(file=out))

    assert r"[bold]x[/bold] :smile: \x1b" in out.getvalue()


@pytest.mark.parametrize("command", ["plan", "caption", "sample"])
def test_the_name_of_a_file_can_not_control_the_terminal(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "a\x1b[2J\u202e\n.mp4"
    clip.write_bytes(b"this is no video")
    out = ["--out", str(tmp_path / "out")] if command == "sample" else []
    monkeypatch.setattr("sys.argv", ["captiond", command, str(clip), *out, "--set", "engine.kind=fake"])

    with pytest.raises(SystemExit) as ended:
        command_line.main()

    said = "".join(capsys.readouterr())
    assert ended.value.code == 65
    assert UNSAFE.search(said) is None
    assert r"a\x1b[2J\u202e\n.mp4" in said.replace("\n", "")


def test_a_file_that_is_not_there_can_not_control_the_terminal_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["captiond", "plan", "/nowhere\x1b[2J"])

    with pytest.raises(SystemExit):
        command_line.main()

    assert r"/nowhere\x1b[2J is not a file" in capsys.readouterr().err


KAFKA: dict[str, Any] = {"kind": "kafka", "bootstrap_servers": "broker:9092", "topics": ["clips"]}
SECRETS: dict[str, Any] = {
    "engine": {"kind": "openai", "base_urls": ["https://user:hunter2@gpu/v1?key=hunter3"], "model": "m"},
    "sources": {
        "clips": KAFKA
        | {"references": {"url_prefixes": ["https://user:hunter4@store/a/"]}}
        | {"consumer": {"ssl_password": "hunter5", "proxy_url": "socks5://user:hunter6@proxy:1080"}}
    },
    "sink": {"kind": "folder", "path": "out"},
}


def test_check_prints_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("daemon.commands.check.check_connectors", lambda _: ["see https://user:hunter7@store/"])
    settings = settings_from(SECRETS | {"http": {"listen": "0.0.0.0:80"}}, folder=tmp_path)

    print_check(settings)

    printed = capsys.readouterr().out
    assert "hunter" not in printed
    assert "https://********@gpu/v1?********" in printed
    assert "https://********@store/a/" in printed
    assert "socks5://********@proxy:1080" in printed
    assert "# http.listen: 0.0.0.0:80 is open to other machines" in printed


@pytest.mark.parametrize(
    "wrong",
    [
        "sink.bootstrap_servers=user:hunter2@broker:9092",
        "sources.clips.references.url_prefixes=['ftp//u:hunter2@h']",
        "engine.slots=https://user:hunter2@gpu/v1",
    ],
)
def test_an_error_of_the_configuration_tells_no_secret(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "captiond.yaml"
    kafka_sink = {"kind": "kafka", "bootstrap_servers": "broker:9092"}
    config.write_text(json.dumps(SECRETS | {"sink": kafka_sink}))
    monkeypatch.setattr("sys.argv", ["captiond", "check", "-c", str(config), wrong])

    with pytest.raises(SystemExit) as ended:
        command_line.main()

    said = "".join(capsys.readouterr())
    assert ended.value.code == 78
    assert "********@" in said
    assert "hunter" not in said


def test_the_status_tells_no_secret_and_nothing_that_controls_a_terminal() -> None:
    parts = Parts()
    parts.route.waiting_for = f"https://user:hunter2@store/ {HOSTILE}"
    parts.engine.model_id = "s3://user:hunter2@models/m"

    snapshot = json.dumps(parts.health.snapshot(), ensure_ascii=False)

    assert "hunter" not in snapshot
    assert UNSAFE.search(parts.health.not_ready() + snapshot) is None


def test_the_commands_print_through_the_terminal_alone() -> None:
    printing = {
        path.name
        for path in (ROOT / "daemon" / "commands").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", "") == "print" or getattr(node.func, "attr", "") in ("print", "write"))
    }

    assert printing == {"terminal.py"}
