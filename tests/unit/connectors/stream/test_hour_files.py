"""The files of a stream: each window once and in order, whatever was cut, and an hour a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.contract import Delivery, Progress
from connectors.messages.webvtt import Shown
from connectors.questions import Questions
from connectors.stream.hour_files import HourFiles
from tests.unit.connectors.stream.windows import FIRST, GRID, Stream, described, take, window_of

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    made = Stream(tmp_path / "state")
    made.record(*range(FIRST, FIRST + 1000))
    made.know(1000)
    return made


def indices(file: Path) -> list[int]:
    return [json.loads(line)["stream"]["index"] - FIRST for line in file.read_text().splitlines()]


async def publish(stream: Stream, files: HourFiles, count: int) -> list[Delivery]:
    route = stream.route(files)
    found = await take(route.deliveries(), count)
    for one in found:
        await route.publish(described(one, f"window {window_of(one).index - FIRST}"))
        one.clip.media.close()  # as the pipeline does: a thousand memory files are more than select() takes
    return found


async def test_an_hour_has_its_lines_and_its_track(stream: Stream, tmp_path: Path) -> None:
    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 902)

    day = tmp_path / "captions" / "cam" / "2027-01-15"
    assert sorted(path.name for path in day.iterdir()) == ["08.jsonl", "08.vtt", "09.jsonl", "09.vtt"]
    assert indices(day / "08.jsonl") == list(range(900))
    assert indices(day / "09.jsonl") == [900, 901]
    assert (day / "08.vtt").read_text().count("-->") == 900
    assert (day / "09.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nwindow 900\n\n00:00:04.000 --> 00:00:08.000\nwindow 901\n"
    )


@pytest.mark.parametrize("cut_bytes", [1, 40, 700])
async def test_half_a_line_is_cut_and_its_window_comes_again(stream: Stream, tmp_path: Path, cut_bytes: int) -> None:
    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 3)
    file = tmp_path / "captions" / "cam" / "2027-01-15" / "08.jsonl"
    position = tmp_path / "state" / "streams" / "cam" / "position.json"
    position.write_text(position.read_text().replace(str(FIRST + 3), str(FIRST + 2)))  # it is written behind the line
    file.write_bytes(file.read_bytes()[:-cut_bytes])

    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 2)

    assert indices(file) == [0, 1, 2, 3]
    assert file.with_suffix(".vtt").read_text().count("-->") == 4


async def test_a_line_whose_position_was_not_kept_is_not_written_again(stream: Stream, tmp_path: Path) -> None:
    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 3)
    position = tmp_path / "state" / "streams" / "cam" / "position.json"
    position.write_text(position.read_text().replace(str(FIRST + 3), str(FIRST + 2)))

    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 2)

    assert indices(tmp_path / "captions" / "cam" / "2027-01-15" / "08.jsonl") == [0, 1, 2, 3, 4]


async def test_a_track_that_a_crash_left_behind_is_made_anew(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "state", now_ns=GRID.span(FIRST + 890)[0])
    stream.record(*range(FIRST + 890, FIRST + 910))  # the last ten windows of an hour, and ten of the next
    stream.know(910)
    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 10)
    track = tmp_path / "captions" / "cam" / "2027-01-15" / "08.vtt"
    whole = track.read_bytes()
    track.write_bytes(whole[:-20])

    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 1)  # which lies in the next hour

    assert track.read_bytes() == whole


async def test_a_window_with_some_of_its_answers_is_asked_again(stream: Stream, tmp_path: Path) -> None:
    questions = Questions({"cam": {"what": None, "who": None}})
    files = HourFiles(tmp_path / "captions", "cam", Shown(questions))

    def both(one: Delivery) -> Progress:
        progress = described(one, prompt="what")
        return replace(progress, captions=[*progress.captions, *described(one, prompt="who").captions])

    route = stream.route(files)
    for one in await take(route.deliveries(), 2):
        await route.publish(both(one))
    file = tmp_path / "captions" / "cam" / "2027-01-15" / "08.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:3]))

    assert await HourFiles(tmp_path / "captions", "cam", Shown(questions)).next_index(GRID, FIRST) == FIRST + 1
    assert indices(file) == [0, 0]


async def test_a_stranger_of_its_name_is_set_aside(stream: Stream, tmp_path: Path) -> None:
    day = tmp_path / "captions" / "cam" / "2027-01-15"
    day.mkdir(parents=True)
    (day / "08.jsonl").write_text("shopping\nlist\n")

    await publish(stream, HourFiles(tmp_path / "captions", "cam"), 1)

    assert indices(day / "08.jsonl") == [0]
    assert any(path.read_text() == "shopping\nlist\n" for path in day.iterdir())
