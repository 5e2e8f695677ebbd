"""Real daemons over a server that refuses everything: no inbox is emptied, and what was wrong can be put right."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jsonschema
import pytest

from connectors.messages.schema import schemas
from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_port
from testing.refusing_server import RefusingServer, refusing_server
from testing.repository import ROOT
from tests.pipeline.daemon_process import FolderJob

pytestmark = pytest.mark.timeout(300)
MORE = "windows: {window_s: 1.0}\nframes: {num_frames: 2}\n"


@pytest.fixture
def server() -> Iterator[RefusingServer]:
    with refusing_server() as running:
        yield running


def fill(job: FolderJob, clips: int) -> list[str]:
    names = [f"c{number}.mp4" for number in range(clips)]
    for name in names:
        write_load_clip(job.inbox / name)
    return names


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.mp4"))


def wait_until(condition: Callable[[], bool], limit_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def stopped(daemon: "subprocess.Popen[str]") -> tuple[int, str]:
    daemon.send_signal(signal.SIGTERM)
    log, _ = daemon.communicate(timeout=90)
    return daemon.returncode, log


@pytest.mark.parametrize("limits", ["", "limits: {max_clips_in_flight: 1}\n", "limits: {alike_failures: 2}\n"])
def test_a_run_that_ends_by_itself_gives_the_clips_back_and_says_78(
    server: RefusingServer, tmp_path: Path, limits: str
) -> None:
    job = FolderJob(tmp_path, engine=server.engine, more=MORE + limits)
    names = fill(job, 8)

    log = job.run_once(expect=78)

    assert files(job.inbox) == names
    assert not job.failed.exists() or not list(job.failed.iterdir())
    assert log.count("Source inbox is paused: ") == 1
    assert "failed as engine_refused: the server answers 400" in log
    server.refuses = False
    job.run_once()
    assert files(job.done) == names


def test_fewer_are_rejected_as_ever(server: RefusingServer, tmp_path: Path) -> None:
    job = FolderJob(tmp_path, engine=server.engine, more=MORE)
    names = fill(job, 4)

    job.run_once()

    assert files(job.failed) == names
    assert job.reason("c0.mp4")["reason"] == "engine_refused"


def test_a_daemon_pauses_says_so_and_goes_on_after_a_reload(server: RefusingServer, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    job = FolderJob(tmp_path, engine=server.engine, more=MORE, listen=listen)
    names = fill(job, 9)
    daemon = job.start()
    try:
        wait_until(lambda: answers(listen) and "is paused" in httpx.get(f"http://{listen}/readyz").text)
        wait_until(lambda: files(job.inbox) == names)  # all of them, in their place
        ready, status = httpx.get(f"http://{listen}/readyz"), httpx.get(f"http://{listen}/status.json").json()
        metrics = httpx.get(f"http://{listen}/metrics").text
        assert ready.status_code == 503
        assert "inbox is paused: " in ready.text
        assert "engine_refused" in ready.text
        assert "engine_refused" in status["paused"]["inbox"]
        assert 'captiond_source_paused{reason="engine_refused",source="inbox"} 1.0' in metrics
        assert httpx.get(f"http://{listen}/livez").status_code == 200
        assert status["clips"] | {"received": 0} == dict.fromkeys(status["clips"], 0)

        daemon.send_signal(signal.SIGHUP)  # nothing is mended: it pauses again
        wait_until(lambda: httpx.get(f"http://{listen}/status.json").json()["last_reload"] != "")
        wait_until(lambda: "is paused" in httpx.get(f"http://{listen}/readyz").text)
        wait_until(lambda: files(job.inbox) == names)
        server.refuses = False
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: len(files(job.done)) == len(names))
        assert httpx.get(f"http://{listen}/readyz").status_code == 200
        assert "source_paused{" not in httpx.get(f"http://{listen}/metrics").text
        code, log = stopped(daemon)
    finally:
        daemon.kill()

    assert code == 0, log
    assert log.count("Source inbox is paused: ") == 2
    assert not job.failed.exists() or not list(job.failed.iterdir())
    for name in names:
        assert [message["window"]["index"] for message in job.messages(name)] == list(range(WINDOWS_EACH))


def answers(listen: str) -> bool:
    try:
        return httpx.get(f"http://{listen}/livez").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_stop_while_paused_loses_nothing(server: RefusingServer, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    job = FolderJob(tmp_path, engine=server.engine, more=MORE, listen=listen)
    names = fill(job, 6)
    daemon = job.start()
    try:
        wait_until(lambda: answers(listen) and "is paused" in httpx.get(f"http://{listen}/readyz").text)
        code, log = stopped(daemon)
    finally:
        daemon.kill()

    assert code == 0, log
    assert files(job.inbox) == names


def test_an_archive_is_not_emptied_either(server: RefusingServer, tmp_path: Path) -> None:
    """With a spool that holds one clip, while more than one must fail."""
    job = FolderJob(tmp_path, engine=server.engine, more=MORE)
    names = fill(job, 7)
    with tarfile.open(tmp_path / "films.tar", "w") as archive:
        for name in names:
            archive.add(job.inbox / name, name)
            (job.inbox / name).unlink()
    config = job.config()
    text = config.read_text().replace("kind: folder, path: inbox", "kind: tar, path: films.tar")
    small = "limits: {in_flight_bytes: 60KiB}\nframes: {num_frames: 1}\n"
    config.write_text(text.replace("frames: {num_frames: 2}\n", small))
    job.config = lambda: config  # type: ignore[method-assign]

    log = job.run_once(expect=78)

    assert "Source inbox is paused: " in log
    server.refuses = False
    job.run_once()
    for name in names:  # none had ended before
        assert [message["status"] for message in job.messages(name)] == ["success"] * WINDOWS_EACH


def test_a_context_that_a_server_says_is_too_small_is_said_before_a_clip_is_taken(
    server: RefusingServer, tmp_path: Path
) -> None:
    server.context = 128
    job = FolderJob(tmp_path, engine=server.engine, more=MORE)
    names = fill(job, 1)

    log = job.run_once(expect=78)

    assert "generation.max_tokens: " in log
    assert files(job.inbox) == names


def test_reasoning_alone_is_a_truncated_caption_with_a_word(server: RefusingServer, tmp_path: Path) -> None:
    server.refuses = False
    message = {"role": "assistant", "content": None, "reasoning_content": "The picture shows"}
    server.answer = {"choices": [{"message": message, "finish_reason": "length"}]}
    job = FolderJob(tmp_path, engine=server.engine, more=MORE)
    (name,) = fill(job, 1)

    job.run_once()

    said = job.messages(name)
    assert {(one["status"], one["text"]) for one in said} == {("truncated", "")}
    assert "reasoning alone, cut off at generation.max_tokens" in said[0]["detail"]


def test_what_a_pipe_can_not_say_is_written_as_its_code(server: RefusingServer, tmp_path: Path) -> None:
    server.refuses = False
    words = "Un café, \U0001f697 :warning: [bold]x[/bold] " + "long " * 60 + "end"
    server.answer = {"choices": [{"message": {"content": [{"type": "text", "text": words}]}, "finish_reason": "stop"}]}
    write_load_clip(tmp_path / "a.mp4")
    settings = (f"engine={server.engine}", "windows.policy=whole")
    command = [sys.executable, "-m", "daemon", "caption", str(tmp_path / "a.mp4")]
    command += [part for one in settings for part in ("--set", one)]

    said = {
        encoding: subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=True
        ).stdout.decode(encoding)
        for encoding in ("utf-8", "ascii")
    }

    assert words in said["utf-8"]
    assert words.encode("ascii", "backslashreplace").decode() in said["ascii"]


def test_answers_of_a_server_that_passes_over_the_schema_are_invalid_and_never_a_success(
    server: RefusingServer, tmp_path: Path
) -> None:
    asked = "prompt: {text: 'A fire?', schema: {type: object, required: [fire]}}\n"
    job = FolderJob(tmp_path, engine=server.engine, more=MORE + asked)
    fill(job, 1)
    server.refuses = False

    job.run_once()

    messages = job.messages("c0.mp4")
    assert len(messages) == WINDOWS_EACH
    for message in messages:
        jsonschema.validate(message, schemas()["caption"])
        assert (message["status"], message["reason"], message["text"]) == ("invalid", "not_json", "A red circle.")
        assert "data" not in message
        assert [(one["status"], one["seed"]) for one in message["attempts"]] == [("invalid", 1)]
    formats = [one["response_format"]["json_schema"]["schema"] for one in server.asked]
    assert formats == [{"type": "object", "required": ["fire"]}] * 2 * WINDOWS_EACH
    assert {one.get("seed") for one in server.asked} == {None, 1}


def test_a_server_that_refuses_in_words_of_its_own_gives_a_status_where_refusals_are_configured(
    server: RefusingServer, tmp_path: Path
) -> None:
    quality = 'quality: {refusals: ["I can\'t"]}\n'
    job = FolderJob(tmp_path, engine=server.engine, more=MORE + quality)
    fill(job, 1)
    server.refuses = False
    message = {"role": "assistant", "content": None, "refusal": "This shows a person."}
    server.answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}}

    job.run_once()

    said = {(one["status"], one["reason"], one["detail"]) for one in job.messages("c0.mp4")}
    assert said == {("refused", "model", "This shows a person.")}
