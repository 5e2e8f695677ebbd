"""The bundled model in the real vLLM, as the service that is installed, from its first start to a second instance.

A start of the engine takes half a minute, so the tests share one service and each leaves it running or says why not; a
test that is run alone starts it. Captions are made long, so that a load lasts until it is struck.
"""

from collections.abc import Iterator
from itertools import count

import pytest

from testing.load import WINDOWS_EACH
from tests.systemd.machine import Machine
from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]

BUNDLED = "{kind: vllm, model: bundled, max_model_len: 1024, args: {enforce-eager: true, max-num-seqs: 2}}"
LONG = "generation: {min_tokens: 128, max_tokens: 128}\ntimeouts: {stall_s: 15.0}\n"
START_S = 400.0  # on two idle cores two minutes, most of it imports in three processes
_fresh = count()


@pytest.fixture(scope="module")
def vllm(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(machine, tmp_path_factory.mktemp("clips"), limit_s=START_S)
    service.clear()
    yield service
    machine.run("systemctl", "stop", service.unit, check=False)


@pytest.fixture
def running(vllm: Service) -> Service:
    """The service, ready, with the configuration that every test begins with."""
    vllm.begin()
    vllm.configure(engine=BUNDLED, more=LONG)
    if vllm.state()["ActiveState"] != "active":
        start(vllm)
    return vllm


def start(*services: Service) -> None:
    """Start services at the same time and wait until each is ready."""
    units = [service.unit for service in services]
    services[0].machine.run("systemctl", "start", *units, timeout_s=START_S)


def put(service: Service, clips: int) -> list[str]:
    return service.put(clips, first=100 * next(_fresh))


def put_and_wait(service: Service, clips: int) -> list[str]:
    """Put clips into the inbox and wait until some of their windows are captioned; return their names."""
    before = service.written()
    names = put(service, clips)
    service.wait_written(before + 3)
    assert service.written() < before + clips * WINDOWS_EACH, "the load is over before it could be struck"
    return names


def engine_processes(service: Service) -> list[str]:
    """Return the processes of the service that are vLLM's engine cores."""
    found = service.machine.run("pgrep", "--uid", service.user, "--full", "EngineCore", check=False)
    return found.split()


def wait_restarted(service: Service, before: dict[str, str]) -> dict[str, str]:
    state = service.wait_for(NRestarts=str(int(before["NRestarts"]) + 1), ActiveState="active")
    assert state["MainPID"] != before["MainPID"]
    return state


def strike_engine(service: Service, how: str) -> str:
    """Send the engine's processes a signal under load, and see the service start again and finish; return its log."""
    before, engine = service.state(), engine_processes(service)
    names = put_and_wait(service, 60)

    service.machine.run("kill", how, *engine)
    names += put(service, 1)  # a slow machine can be done with the others by the time of the signal

    wait_restarted(service, before)
    service.wait_done(names)
    return service.journal()


def test_ready_after_the_model_has_answered_and_a_clip_is_captioned(running: Service) -> None:
    state = running.wait_for(ActiveState="active", SubState="running", StatusText="Ready")
    assert (state["Result"], state["NRestarts"]) == ("success", "0")

    running.wait_done(names := put(running, 2))

    assert {str(message["model"]) for name in names for message in running.captions(name)} == {"bundled"}
    assert all(message["text"] for name in names for message in running.captions(name))


@pytest.mark.thorough
def test_a_reload_with_clips_in_flight(running: Service) -> None:
    names = put_and_wait(running, 60)

    running.configure(engine=BUNDLED, more=LONG + "prompt: {text: 'What moves?'}\n")
    running.machine.run("systemctl", "reload", running.unit)

    running.wait_for(ActiveState="active", SubState="running")
    running.wait_done(names)
    assert "prompt.text changed" in running.state()["StatusText"]
    running.wait_done(later := put(running, 1))
    hashes = {str(message["prompt_hash"]) for message in running.captions(names[0])}
    assert len(hashes) == 1
    assert str(running.captions(later[0])[0]["prompt_hash"]) not in hashes
    running.configure(engine=BUNDLED, more=LONG)
    running.machine.run("systemctl", "reload", running.unit)


def test_an_engine_process_that_is_killed(running: Service) -> None:
    journal = strike_engine(running, "-KILL")

    assert "The engine is lost: the engine's process died" in journal
    assert "never retrieved" not in journal


@pytest.mark.thorough
def test_an_engine_that_stands_still(running: Service) -> None:
    journal = strike_engine(running, "-STOP")

    assert "No progress of the engine for 15 s" in journal
    assert "most recent call first" in journal


@pytest.mark.thorough
def test_a_stop_under_load_and_two_instances_after_it(running: Service) -> None:
    names = put_and_wait(running, 60)

    running.machine.run("systemctl", "stop", running.unit)

    state = running.state()
    assert (state["ActiveState"], state["Result"], state["ExecMainStatus"]) == ("inactive", "success", "0")
    assert "leaked" not in running.journal()
    assert running.machine.run("pgrep", "--uid", "captiond", check=False) == ""
    second = Service(running.machine, running.scratch, name="doors", limit_s=START_S)
    second.make_instance()
    second.configure(engine=BUNDLED)
    start(running, second)
    try:
        second.wait_done(put(second, 2))
        running.wait_done(names)
        for service in (running, second):
            assert service.wait_for(ActiveState="active", StatusText="Ready")["NRestarts"] == "0"
        assert [len(engine_processes(service)) for service in (running, second)] == [1, 1]
    finally:
        running.machine.run("systemctl", "stop", second.unit)


@pytest.mark.thorough
def test_a_model_that_is_not_there_is_one_failure(vllm: Service) -> None:
    vllm.machine.run("systemctl", "stop", vllm.unit)
    vllm.configure(engine=BUNDLED.replace("bundled", "/srv/no-such-model"))

    vllm.machine.run("systemctl", "start", vllm.unit, check=False)

    state = vllm.wait_for(ActiveState="failed")
    assert (state["Result"], state["ExecMainStatus"], state["NRestarts"]) == ("exit-code", "78", "0")
    assert "engine.model" in vllm.journal()
    vllm.machine.run("systemctl", "reset-failed", vllm.unit)
