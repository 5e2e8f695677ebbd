"""A record that kills the daemon becomes a dead letter; its neighbours keep both routes' promises."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.contract import Quarantine
from connectors.kafka.record import ERRORS_PREFIX
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.deliveries import SLOW_TRANSACTIONAL
from tests.kafka.stand_in import place_of, windows_of
from tests.kafka.topics import Topics
from tests.pipeline.test_unforeseen_ends import BLAMED, BUG, KILLED, records, run_struck

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

CLIPS = 6
MORE = "limits: {max_clips_in_flight: 4}\nstate_dir: state\n"
# a killed member is waited for until its session is over, before each start but the first
SHORT_SESSION = ", consumer: {session_timeout_ms: 4000, heartbeat_interval_ms: 1000}"


def daemon_over(topics: Topics, folder: Path, transactional: bool) -> Daemon:
    return Daemon(
        folder,
        {"clips": kafka_source(topics.bootstrap, topics.clips, SHORT_SESSION)},
        kafka_sink(topics.bootstrap, topics.captions),
        more=MORE,
        delivery="transactional" if transactional else "at_least_once",
        engine="{kind: fake, delay_ms: 20, slots: 4}",
    )


@SLOW_TRANSACTIONAL
@pytest.mark.parametrize(("fault", "code"), [("killed_at_engine", KILLED), ("key_at_settle", BUG)])
def test_the_record_that_ends_the_program_is_a_dead_letter_after_a_few_starts(
    make_topics: Callable[..., Topics], tmp_path: Path, transactional: bool, fault: str, code: int
) -> None:
    topics = make_topics()
    write_load_clip(tmp_path / "clip.mp4")
    topics.produce([(tmp_path / "clip.mp4").read_bytes()] * CLIPS)
    daemon = daemon_over(topics, tmp_path, transactional)

    codes, said = run_struck(tmp_path / "captiond.yaml", fault, f"{topics.clips}/0/2")

    assert codes in [[code] * ends + [0] for ends in range(2, 6)], said
    (letter,) = topics.letters()
    headers = dict(letter.headers)
    assert headers[f"{ERRORS_PREFIX}exception.class.name"] == b"killer"
    assert place_of((headers[f"{ERRORS_PREFIX}clip_id"] or b"").decode()) == f"{topics.clips}/0/2"
    found = windows_of(topics.read())
    whole = list(range(WINDOWS_EACH))
    for number in set(range(CLIPS)) - {2}:
        windows = found[f"{topics.clips}/0/{number}"]
        assert (windows if transactional else sorted(set(windows))) == whole, said
    position = topics.committed()
    assert position is not None
    assert (position.offset, position.unfinished) == (position.next_unseen, {})
    assert records(tmp_path) == []

    assert daemon.once("replay").returncode == 0
    again = daemon.once()
    assert (again.returncode, BLAMED in again.stderr) == (0, False), again.stderr
    assert sorted(set(windows_of(topics.read())[f"{topics.clips}/0/2"])) == whole


@SLOW_TRANSACTIONAL
def test_what_a_kill_left_is_kept_by_the_group(
    make_topics: Callable[..., Topics], tmp_path: Path, transactional: bool
) -> None:
    topics = make_topics()
    write_load_clip(tmp_path / "clip.mp4")
    topics.produce([(tmp_path / "clip.mp4").read_bytes()] * CLIPS)
    daemon_over(topics, tmp_path, transactional)

    codes, said = run_struck(tmp_path / "captiond.yaml", "killed_at_engine", "nowhere", at_most=1)
    assert codes == [0], said
    topics.produce([(tmp_path / "clip.mp4").read_bytes()])
    codes, said = run_struck(tmp_path / "captiond.yaml", "killed_at_engine", f"/0/{CLIPS}", at_most=2)
    position = topics.committed()

    assert codes == [KILLED, KILLED], said
    assert position is not None
    assert [clip.quarantine for clip in position.unfinished.values()] == [Quarantine.ALONE]


def test_a_question_that_is_too_long_is_a_dead_letter(make_topics: Callable[..., Topics], tmp_path: Path) -> None:
    topics = make_topics()
    write_load_clip(tmp_path / "clip.mp4")
    video = (tmp_path / "clip.mp4").read_bytes()
    topics.produce([video, video], headers=[("prompt", b"x" * 33_000)])

    ended = daemon_over(topics, tmp_path, False).once()

    assert ended.returncode == 0, ended.stderr
    assert [dict(letter.headers)[f"{ERRORS_PREFIX}exception.class.name"] for letter in topics.letters()] == [
        b"prompt"
    ] * 2
