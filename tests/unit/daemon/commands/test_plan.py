"""``captiond plan``: what was mended in a clip's times is said, and when its first frame is shown."""

import io
import json
import time
from typing import Any

import pytest
from rich.console import Console

from daemon import __main__ as command_line
from daemon.commands import plan as command
from daemon.engines import build
from daemon.engines.fake import FakeTokenPlanner
from tests.field.reading import INPUTS

pytestmark = pytest.mark.slow  # it starts decoders


def plan_of(
    name: str, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> str:
    arguments = ["captiond", "plan", str(INPUTS / name), "--format", form, "--set", "engine.kind=fake", *more]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code in (0, None)
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a01_ts_restart_overlap.ts", "Mended: 1 jump(s) of the clock back."),
        ("a03_ts_jump_2h.ts", "Mended: 1 jump(s) of the clock ahead by more than 10 s."),
        ("a06_ts_one_pts_missing.ts", "Mended: 1 frame(s) without a time of their own"),
        ("a10_avi_h264_b_late.avi", "Mended: the order of frames"),
        ("a15_mkv_still_and_sound.mkv", "Mended: the last picture's length"),
        ("b12_other.h264", "Mended: all times, which follow the frame rate"),
        ("a08_mp4_video_starts_late.mp4", "The first frame is shown at 5.000 s of the container's clock."),
    ],
)
def test_what_was_mended_is_said(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in plan_of(name, "table", monkeypatch, capsys)


def test_json_has_it_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(plan_of("a08_mp4_video_starts_late.mp4", "json", monkeypatch, capsys))

    assert (row["media_start_ns"], row["mended"]) == (5_000_000_000, [])


def test_each_window_has_its_size_and_its_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = ["--set", "frames.max_pixels=1000"]
    row = json.loads(plan_of("a08_mp4_video_starts_late.mp4", "json", monkeypatch, capsys, *bound))

    for window in row["windows"]:
        assert 500 < window["width"] * window["height"] <= 1000
        assert window["vision_tokens"] == window["unbounded_vision_tokens"] == 16 * len(window["frames"])
    table = plan_of("a08_mp4_video_starts_late.mp4", "table", monkeypatch, capsys, *bound)
    assert f"{row['windows'][0]['width']} x {row['windows'][0]['height']}" in table


def test_without_tokens_no_model_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def asked(_: Any) -> Any:
        raise AssertionError("the model's processor was asked")

    monkeypatch.setattr(build, "build_token_planner", asked)

    row = json.loads(plan_of("a08_mp4_video_starts_late.mp4", "json", monkeypatch, capsys, "--no-tokens"))

    assert [window["prompt_tokens"] for window in row["windows"]] == [None] * len(row["windows"]) != []


def test_a_terminal_shows_windows_while_tokens_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()

    def slow(_: Any) -> FakeTokenPlanner:
        while "Tokens are counted as soon as" not in screen.getvalue():
            time.sleep(0.01)
        assert "of frames" in screen.getvalue()
        return FakeTokenPlanner()

    monkeypatch.setattr(build, "build_token_planner", slow)
    monkeypatch.setattr(command, "Console", lambda: Console(file=screen, force_terminal=True, width=150))

    plan_of("a08_mp4_video_starts_late.mp4", "table", monkeypatch, capsys)

    assert screen.getvalue().count("The first frame is shown at 5.000 s of the container's clock.") >= 2


@pytest.mark.timeout(60)
def test_a_cue_stands_at_the_players_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(INPUTS / "a08_mp4_video_starts_late.mp4")
    arguments = ["captiond", "caption", clip, "--format", "vtt", "--set", "engine.kind=fake"]
    monkeypatch.setattr("sys.argv", arguments)

    with pytest.raises(SystemExit):
        command_line.main()

    assert "00:00:05.000 --> 00:00:08.000" in capsys.readouterr().out
