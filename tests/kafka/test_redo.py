"""Clips that came in records go through again by what their messages say, as far as the record is still there."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import CaptionStatus, Delivery, Progress
from connectors.folder.settings import FolderSourceSettings
from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from connectors.kafka.client.consumer import TopicPartition
from connectors.kafka.record import REPLAY_PREFIX
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaSourceSettings
from connectors.redo.clips import redo
from testing.load import WINDOWS_EACH, write_load_clip
from tests.kafka.daemon_process import Daemon, kafka_sink, kafka_source
from tests.kafka.stand_in import PLAN, AnyRoute, caption, place_of, read_all, run_pipeline
from tests.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

LOOPING, SUCCESS = CaptionStatus.LOOPING, CaptionStatus.SUCCESS
MakeTopics = Callable[..., Topics]


def again(topics: Topics, *where: str, source: dict[str, Any] | None = None, **more: Any) -> list[tuple[str, str]]:
    """Return the place of each chosen clip and what became of it."""
    settings = KafkaSourceSettings(
        **{"bootstrap_servers": topics.bootstrap, "topics": topics.clips, "group_id": topics.clips} | (source or {})
    )
    done = redo(topics.sink_settings(), {"t": settings}, where, state_dir=topics.state_dir, **more)
    return [(one.clip.name, "under way" if one.is_under_way else one.why_left) for one in done]


async def finish(route: AnyRoute, delivery: Delivery, *statuses: CaptionStatus, plan: str = PLAN) -> None:
    """Publish a clip's windows with these statuses."""
    said = [replace(caption(delivery, index), status=status, plan_hash=plan) for index, status in enumerate(statuses)]
    await route.publish(Progress(delivery, said, len(statuses), plan, last=True))
    delivery.clip.media.close()


async def captioned(topics: Topics, statuses: Sequence[Sequence[CaptionStatus]], *, transactional: bool) -> None:
    """Have the next clips captioned so."""
    route = topics.route(transactional=transactional, replay_key=ReplayKey.load(topics.state_dir))
    deliveries = route.deliveries()
    for each in statuses:
        await finish(route, await anext(deliveries), *each)
    await route.close()
    await deliveries.aclose()


async def test_a_clip_goes_through_again_from_its_first_window_and_is_chosen_until_it_is_better(
    make_topics: MakeTopics, transactional: bool
) -> None:
    topics = make_topics()
    topics.produce([b"clip 0", b"clip 1", b"clip 2"], headers=[("color", b"blue")])
    await captioned(topics, [[SUCCESS], [SUCCESS, LOOPING], [SUCCESS]], transactional=transactional)
    place = f"{topics.clips}/0/1"

    assert again(topics, "status=looping", dry_run=True) == [(place, "")]
    assert again(topics, "status=looping") == [(place, "")]
    assert again(topics, "status=looping") == [(place, "under way")]

    sent = read_all(topics.bootstrap, topics.clips)
    assert len(sent) == 4
    headers = dict(sent[-1].headers)
    assert (sent[-1].key, sent[-1].value, headers["color"]) == (b"k1", b"clip 1", b"blue")
    assert headers[f"{REPLAY_PREFIX}count"] == b"1"

    # looping once more: the record that was sent last goes through again
    await captioned(topics, [[SUCCESS, LOOPING]], transactional=transactional)
    assert place_of(json.loads(topics.read()[-1].value)["clip_id"]) == place
    assert again(topics, "status=looping") == [(f"{topics.clips}/0/3", "")]
    assert dict(read_all(topics.bootstrap, topics.clips)[-1].headers)[f"{REPLAY_PREFIX}count"] == b"2"

    await captioned(topics, [[SUCCESS]], transactional=transactional)
    assert topics.windows()[place] == [0, 1, 0, 1, 0]
    assert again(topics, "status=looping", "window.index=0") == []


async def test_windows_of_an_earlier_plan_choose_nothing(make_topics: MakeTopics) -> None:
    topics = make_topics()
    topics.produce([b"clip"])
    await captioned(topics, [[SUCCESS, LOOPING]], transactional=True)
    assert again(topics, "status=looping") == [(f"{topics.clips}/0/0", "")]

    route = topics.route(transactional=True, replay_key=ReplayKey.load(topics.state_dir))
    deliveries = route.deliveries()
    await finish(route, await anext(deliveries), SUCCESS, plan="f" * 16)
    await route.close()
    await deliveries.aclose()

    assert again(topics, "status=looping") == []


async def test_not_more_than_the_limit_and_the_next_call_goes_on(make_topics: MakeTopics) -> None:
    topics = make_topics()
    topics.produce([b"clip"] * 3)
    await captioned(topics, [[LOOPING]] * 3, transactional=False)
    places = [f"{topics.clips}/0/{offset}" for offset in range(3)]

    assert again(topics, "status=looping", limit=2) == [(place, "") for place in places[:2]]
    assert again(topics, "status=looping", limit=2) == [
        *((place, "under way") for place in places[:2]),
        (places[2], ""),
    ]


async def test_a_record_that_is_gone_is_told_of(make_topics: MakeTopics, admin: KafkaAdminClient) -> None:
    topics = make_topics()
    topics.produce([b"clip"] * 3)
    await captioned(topics, [[LOOPING]] * 3, transactional=False)
    admin.delete_records({TopicPartition(topics.clips, 0): 2})

    found = again(topics, "status=looping")

    gone = f"its record is gone: {topics.clips}/0 begins at 2 now"
    assert found == [
        (f"{topics.clips}/0/0", gone),
        (f"{topics.clips}/0/1", gone),
        (f"{topics.clips}/0/2", ""),
    ]


async def test_a_reference_that_was_rejected_goes_from_its_dead_letter_where_the_record_is_gone(
    make_topics: MakeTopics, admin: KafkaAdminClient
) -> None:
    topics = make_topics()
    reference = b'{"uri": "/clips/a.mp4", "clip_id": "a"}'
    topics.produce([reference])
    route = topics.route(transactional=True, once=True)
    await run_pipeline(route)  # no reference is allowed
    await route.close()
    assert len(topics.letters()) == 1
    place = f"{topics.clips}/0/0"

    assert again(topics, "status=rejected", "reason=corrupt") == []
    assert again(topics, "reason=forbidden_path", dry_run=True) == [(place, "")]
    topics.produce([b"another"])
    admin.delete_records({TopicPartition(topics.clips, 0): 1})
    assert again(topics, "reason=forbidden_path") == [(place, "")]

    sent = read_all(topics.bootstrap, topics.clips)[-1]
    assert sent.value == reference
    assert dict(sent.headers)[f"{REPLAY_PREFIX}clip_id"] == b"a"
    assert not [name for name, _ in sent.headers if "errors" in name]
    assert len(topics.letters()) == 1


async def test_what_lies_at_the_place_of_another_clip_is_not_sent(
    make_topics: MakeTopics, admin: KafkaAdminClient
) -> None:
    topics = make_topics()
    topics.produce([b'{"uri": "/a.mp4", "clip_id": "a"}', b"clip", b"clip"])
    route = topics.route(transactional=False)
    deliveries = route.deliveries()
    for _ in range(3):
        await finish(route, await anext(deliveries), LOOPING)
    await route.close()
    await deliveries.aclose()
    admin.delete_topics([topics.clips])
    await_gone(admin, topics.clips)
    admin.create_topics([NewTopic(topics.clips, 1, 1)])
    admin.wait_for_topics([topics.clips])
    topics.produce([b'{"uri": "/b.mp4", "clip_id": "b"}', b"another clip"])

    found = dict(again(topics, "status=looping"))

    assert found == {
        f"{topics.clips}/0/0": "another record is at its place",
        f"{topics.clips}/0/1": "another record is at its place",
        f"{topics.clips}/0/2": f"its record is not there: {topics.clips}/0 ends at 2",
    }
    assert set(dict(again(topics, "status=looping", source={"topics": "others"})).values()) == {
        f"{topics.clips} is no topic of the source"
    }


def await_gone(admin: KafkaAdminClient, topic: str) -> None:
    while topic in admin.list_topics():
        time.sleep(0.1)


def test_messages_in_a_topic_bring_a_folders_clip_back(bootstrap: str, make_topics: MakeTopics, tmp_path: Path) -> None:
    topics = make_topics()
    (tmp_path / "inbox").mkdir()
    write_load_clip(tmp_path / "inbox" / "a.mp4")
    sink = kafka_sink(bootstrap, topics.captions)
    daemon = Daemon(tmp_path, {"t": "{kind: folder, path: inbox, settle_s: 0.1}"}, sink)
    assert daemon.once().returncode == 0

    done = redo(
        topics.sink_settings(),
        {"t": FolderSourceSettings(path=tmp_path / "inbox")},
        ["status=success"],
        state_dir=tmp_path,
    )

    assert [(one.clip.name, one.why_left) for one in done] == [("a.mp4", "")]
    assert daemon.once().returncode == 0
    (windows,) = topics.windows().values()
    assert windows == [*range(WINDOWS_EACH)] * 2


def test_messages_in_files_bring_a_record_back(bootstrap: str, make_topics: MakeTopics, tmp_path: Path) -> None:
    topics = make_topics()
    write_load_clip(tmp_path / "clip.mp4")
    topics.produce([(tmp_path / "clip.mp4").read_bytes()])
    daemon = Daemon(
        tmp_path, {"t": kafka_source(bootstrap, topics.clips)}, "{kind: folder, path: captions}", "state_dir: state\n"
    )
    assert daemon.once().returncode == 0
    (file,) = (tmp_path / "captions").rglob("*.jsonl")
    before = [json.loads(line)["caption_id"] for line in file.read_text().splitlines()]
    file.write_text(file.read_text().replace('"status":"success"', '"status":"looping"', 1))

    for _ in range(2):  # the second time it is under way
        ended = daemon.run("redo", "--where", "status=looping")
        assert ended.returncode == 0, ended.stderr
    assert "1 more were sent by an earlier call" in ended.stdout
    assert not file.exists()

    assert daemon.once().returncode == 0
    (old, file) = sorted((tmp_path / "captions").rglob("*.jsonl*"))
    assert [json.loads(line)["caption_id"] for line in file.read_text().splitlines()] == before
    assert len(before) == WINDOWS_EACH
    assert "looping" in old.read_text()
    assert daemon.run("redo", "--where", "status=looping").stdout.startswith("0 clips")
