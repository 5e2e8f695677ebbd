"""The `/metrics` of a running daemon, held against the format, promtool's rules, the table and its clips."""

import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from daemon.telemetry.metrics import TABLE
from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_port
from tests.exposition import Family, lint, parse, promtool_says
from tests.pipeline.daemon_process import FolderJob

CLIPS = 3
_OF_THE_PROCESS = "process_"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The exposition of a daemon that has captioned some clips and rejected one."""
    port = free_port()
    job = FolderJob(tmp_path_factory.mktemp("job"))
    job.listen = f"127.0.0.1:{port}"
    for number in range(CLIPS):
        write_load_clip(job.inbox / f"c{number}.mp4")
    (job.inbox / "no-video.mp4").write_bytes(b"words " * 100)
    process = job.start()
    try:
        yield _text_once_done(process, port)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _text_once_done(process: "subprocess.Popen[str]", port: int) -> str:
    deadline_s = time.monotonic() + 90
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            found = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        except httpx.HTTPError:
            found = ""
        ended = [f'captiond_clips_done_total{{source="inbox"}} {CLIPS}.0', "captiond_clips_rejected_total{"]
        # a clip is counted as done a moment before nothing is left of it
        ended.append('captiond_source_lag{partition="",source="inbox",topic=""} 0.0')
        ended.append('captiond_clips_in_flight{source="inbox"} 0.0')
        if all(line in found for line in ended):
            return found
        time.sleep(0.1)
    raise AssertionError(f"not done: {found}")


@pytest.fixture(scope="module")
def families(text: str) -> dict[str, Family]:
    return parse(text)


def test_promtool_accepts_it(text: str, families: dict[str, Family]) -> None:
    ours = [line for line in lint(families) if not line.startswith(_OF_THE_PROCESS)]

    assert ours == []
    assert not promtool_says(text)


def test_it_is_what_the_table_says(families: dict[str, Family]) -> None:
    rows = {row.name: row for row in TABLE}

    for family in families.values():
        if family.name.startswith(_OF_THE_PROCESS):
            continue
        row = rows[family.name]
        assert (family.kind, family.text) == (row.kind, row.text)
        for _, labels, _ in family.samples:
            assert labels.keys() - {"le"} == set(row.labels)


def test_it_counts_what_happened(families: dict[str, Family]) -> None:
    def value(name: str, **labels: str) -> float:
        samples = families[name].samples
        return sum(found for _, its, found in samples if labels.items() <= its.items())

    assert value("captiond_clips_received_total", source="inbox") == CLIPS + 1
    assert value("captiond_captions_total", source="inbox", status="success") == CLIPS * WINDOWS_EACH
    assert value("captiond_clips_rejected_total", source="inbox") == 1
    assert value("captiond_clip_bytes_total") > 0
    assert value("captiond_clips_in_flight") == 0
    assert value("captiond_source_lag", source="inbox") == 0
    assert value("captiond_ready") == 1
    stages = {its["stage"] for _, its, _ in families["captiond_stage_seconds"].samples}
    assert stages == {"plan", "decode", "queue", "engine", "publish"}


@pytest.mark.parametrize(
    "broken",
    [
        "captiond_x 1",  # no end of line
        "captiond_x{a=1} 1\n",
        "captiond_x{a='1'} 1\n",
        "captiond_x one\n",
        "# TYPE captiond_x number\ncaptiond_x 1\n",
        'captiond_x 1\ncaptiond_y 1\ncaptiond_x{a="b"} 1\n',
        "captiond_x 1\ncaptiond_x 1\n",
        "captiond_x 1\n# TYPE captiond_x gauge\n",
    ],
)
def test_a_text_that_breaks_the_format_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(broken)
    assert promtool_says(broken) != ""


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("captiond_x", "counter", "_total"),
        ("captiond_x_total", "gauge", "non-counter"),
        ("captiond_x_milliseconds", "gauge", "base unit"),
        ("captiondX", "gauge", "snake_case"),
        ("captiond_gauge", "gauge", "include type"),
        ("captiond_x_count", "gauge", "reserved suffix"),
    ],
)
def test_what_promtool_complains_about_is_complained_about(name: str, kind: str, complaint: str) -> None:
    text = f"# HELP {name} Some.\n# TYPE {name} {kind}\n{name} 1\n"

    assert any(complaint in line for line in lint(parse(text)))
    assert promtool_says(text) != ""
