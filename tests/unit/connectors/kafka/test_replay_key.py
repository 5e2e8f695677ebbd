"""What a replay says is believed where this installation signed it, about this record, and nowhere else."""

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from connectors.kafka.record import ERRORS_PREFIX, REPLAY_PREFIX
from connectors.kafka.replay import replay_headers
from connectors.kafka.replay_key import ReplayKey

KEY = ReplayKey(b"k" * 32)
SAID = {"clip_id": "c", "first_window": "2", "plan_hash": "ab", "count": "1", "topic": "t", "partition": "0"}


def signed(key: ReplayKey, **more: str) -> dict[str, str]:
    said = SAID | {"offset": "7"} | more
    return said | {"signature": key.sign(said, b"k", b"clip")}


def test_a_key_knows_what_it_signed_and_nothing_else() -> None:
    said = signed(KEY)

    assert KEY.knows(said, b"k", b"clip")
    assert not ReplayKey(b"x" * 32).knows(said, b"k", b"clip")
    assert not KEY.knows(said, b"k", b"another clip")
    assert not KEY.knows(said, None, b"clip")
    assert not KEY.knows(said | {"signature": ""}, b"k", b"clip")
    assert not KEY.knows(said | {"signature": "\u00e9"}, b"k", b"clip")
    assert not KEY.knows(SAID, b"k", b"clip")
    for name in said:
        assert not KEY.knows(said | {name: said[name] + "0"}, b"k", b"clip"), name
        assert not KEY.knows({other: value for other, value in said.items() if other != name}, b"k", b"clip"), name


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = ReplayKey.load(tmp_path / "state")

    assert ReplayKey.load(tmp_path / "state").knows(signed(made), b"k", b"clip")
    assert stat.S_IMODE((tmp_path / "state/replay.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["replay.key"]


def test_a_credential_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "replay.key").write_bytes(b"k" * 32 + b"\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert ReplayKey.load(tmp_path / "state").knows(signed(KEY), b"k", b"clip")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", [b"", b"short\n"])
def test_a_key_that_is_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "replay.key").write_bytes(content)

    with pytest.raises(ConfigurationError, match="holds fewer than 16 bytes"):
        ReplayKey.load(tmp_path)


def test_a_key_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file")

    with pytest.raises(ConfigurationError, match=r"state_dir: .*replay\.key can't be used"):
        ReplayKey.load(tmp_path / "state")


def test_a_replay_is_signed() -> None:
    place = {"topic": b"t", "partition": b"0", "offset": b"7", "clip_id": b"c", "first_window": b"2"}
    headers: Any = [(ERRORS_PREFIX + name, value) for name, value in place.items()]
    letter: Any = SimpleNamespace(key=b"k", value=b"clip", headers=[("color", b"blue"), *headers])

    again = replay_headers(letter, KEY)

    said = {name.removeprefix(REPLAY_PREFIX): (value or b"").decode() for name, value in again if name != "color"}
    assert KEY.knows(said, b"k", b"clip")
    assert ("color", b"blue") in again
