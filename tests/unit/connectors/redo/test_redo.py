"""Clips that go through again: which are chosen, and that each is captioned anew, once."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.redo import folder_clips
from connectors.redo.clips import redo
from connectors.redo.conditions import Condition, all_met
from daemon import __main__ as command_line
from testing.load import write_load_clip

CONFIG = """
sources: {yard: {kind: folder, path: inbox, settle_s: 0.1}}
sink: {kind: folder, path: captions}
windows: {window_s: 2, stride_s: 2}
frames: {num_frames: 2}
engine: {kind: fake}
http: null
state_dir: state
"""


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        ("status=looping", True),
        ("status=success|looping", True),
        ("status=success", False),
        ("status!=looping", False),
        ("window.index=3", True),
        ("window.index!=0", True),
        ("detail=", True),
        ("nothing=x", False),
        ("nothing!=x", True),
        ("data=null", True),
        ("window=3", False),
    ],
)
def test_conditions(condition: str, is_met: bool) -> None:
    message = {"status": "looping", "window": {"index": 3}, "detail": "", "data": None}

    assert Condition.parse(condition).is_met(message) is is_met
    assert all_met([Condition.parse(condition), Condition.parse("status=looping")], message) is is_met


@pytest.mark.parametrize("wrong", ["", "status", "=x", "a..b=c"])
def test_what_is_no_condition_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        Condition.parse(wrong)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which three clips were captioned, one of them in a folder of its own."""
    (tmp_path / "inbox" / "deep").mkdir(parents=True)
    (tmp_path / "c.yaml").write_text(CONFIG)
    for name in ("a.mp4", "b.mp4", "deep/c.mp4"):
        write_load_clip(tmp_path / "inbox" / name)
    captiond(monkeypatch, "run", "-c", tmp_path / "c.yaml", "--once")
    return tmp_path


def captiond(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["captiond", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(ended.value.code or 0)


def lines_of(house: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (house / "captions" / "yard" / f"{name}.jsonl").read_text().splitlines()]


def edit(house: Path, name: str, status: str) -> None:
    """Have one of a clip's captions say that it is of another status."""
    path = house / "captions" / "yard" / f"{name}.jsonl"
    path.write_text(path.read_text().replace('"status":"success"', f'"status":"{status}"', 1))


def work(house: Path, *where: str, dry_run: bool = False, limit: int | None = None) -> Sequence[tuple[str, str]]:
    sources = {"yard": FolderSourceSettings(path=house / "inbox")}
    done = redo(
        FolderSinkSettings(path=house / "captions"), sources, where, state_dir=house, dry_run=dry_run, limit=limit
    )
    return [(one.clip.name, one.why_left) for one in done]


def test_a_chosen_clip_is_captioned_anew_and_once(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: lines_of(house, name) for name in ("a.mp4", "b.mp4", "deep/c.mp4")}
    edit(house, "deep/c.mp4", "looping")

    assert captiond(monkeypatch, "redo", "-c", house / "c.yaml", "--where", "status=looping") == 0
    assert "1 clips go through again, 0 are left." in capsys.readouterr().out
    assert (house / "inbox" / "deep" / "c.mp4").exists()
    assert not (house / "captions" / "yard" / "deep" / "c.mp4.jsonl").exists()

    captiond(monkeypatch, "run", "-c", house / "c.yaml", "--once")
    assert [one["caption_id"] for one in lines_of(house, "deep/c.mp4")] == [
        one["caption_id"] for one in before["deep/c.mp4"]
    ]
    assert {one["status"] for one in lines_of(house, "deep/c.mp4")} == {"success"}
    assert lines_of(house, "a.mp4") == before["a.mp4"]
    old = house / "captions" / "yard" / "deep" / "c.mp4.jsonl.old"
    assert '"looping"' in old.read_text()
    assert (house / "inbox" / "done" / "deep" / "c.mp4").exists()
    assert work(house, "status=looping") == []


def test_a_rejected_clip_goes_through_again_without_its_reason(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (house / "inbox" / "broken.mp4").write_bytes(b"no video at all")
    captiond(monkeypatch, "run", "-c", house / "c.yaml", "--once")
    assert (house / "inbox" / "failed" / "broken.mp4.reason.json").exists()

    assert work(house, "status=rejected", "reason=not_a_video") == [("broken.mp4", "")]
    assert (house / "inbox" / "broken.mp4").exists()
    assert list((house / "inbox" / "failed").iterdir()) == []


def test_nothing_is_moved_in_a_dry_run_and_not_more_than_the_limit(house: Path) -> None:
    assert len(work(house, "status=success", dry_run=True)) == 3
    assert not (house / "inbox" / "a.mp4").exists()

    assert work(house, "status=success", limit=2) == [("a.mp4", ""), ("b.mp4", "")]
    assert (house / "inbox" / "done" / "deep" / "c.mp4").exists()


def test_a_clip_that_is_not_the_one_that_was_captioned_is_left(house: Path) -> None:
    os.utime(house / "inbox" / "done" / "a.mp4", ns=(1, 1))
    (house / "inbox" / "b.mp4").write_bytes(b"another")

    left = dict(work(house, "status=success"))

    assert "neither" in left["a.mp4"]
    assert "another file" in left["b.mp4"]
    assert left["deep/c.mp4"] == ""
    assert (house / "captions" / "yard" / "a.mp4.jsonl").exists()
    assert (house / "inbox" / "b.mp4").read_bytes() == b"another"


def test_a_call_that_was_killed_is_gone_on_with(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folder_clips, "move_beneath", killed)
        with pytest.raises(KeyboardInterrupt):
            work(house, "clip_name=a.mp4")
    assert (house / "captions" / "yard" / "a.mp4.jsonl.old").exists()

    assert work(house, "clip_name=a.mp4") == [("a.mp4", "")]
    assert (house / "inbox" / "a.mp4").exists()


def test_names_in_messages_lead_nowhere_else(house: Path) -> None:
    (house / "inbox" / "done" / "secret.mp4").write_bytes(b"x")
    for name in ("../secret.mp4", "/etc/passwd", "..", "a\0b", ""):
        hostile = {"type": "captiond.caption.v1", "source": "yard", "clip_id": "x", "clip_name": name, "status": "odd"}
        (house / "captions" / "yard" / "hostile.jsonl").write_text(json.dumps(hostile) + "\n")

        assert [why != "" for _, why in work(house, "status=odd")] == [True]
