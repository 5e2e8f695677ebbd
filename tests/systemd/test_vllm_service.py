"""The bundled model in the real vLLM, as the service that is installed."""

import pytest

from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

BUNDLED = "{kind: vllm, model: bundled}"


def engine_processes(service: Service) -> list[str]:
    """Return the processes of the service that are vLLM's engine cores."""
    found = service.machine.run("pgrep", "--uid", "captiond", "--full", "EngineCore", check=False)
    return found.split()


def test_the_bundled_model_from_start_to_stop_with_its_engine_killed_in_between(service: Service) -> None:
    service.configure(engine=BUNDLED)

    service.machine.run("systemctl", "start", service.unit, timeout_s=300)

    assert service.wait_for(ActiveState="active", StatusText="Ready")["NRestarts"] == "0"
    service.wait_done(service.put(2))
    assert service.captions("c000.mp4")[0]["model"] == "bundled"

    names = service.put(6, first=10)
    service.wait_written(2 * 6 + 3)
    (core,) = engine_processes(service)
    service.machine.run("kill", "-KILL", core)
    service.wait_for(NRestarts="1", ActiveState="active")
    service.wait_done(names)
    assert "never retrieved" not in service.machine.journal(service.unit)

    more = service.put(6, first=20)
    service.wait_written(8 * 6 + 3)
    service.machine.run("systemctl", "stop", service.unit)
    state = service.state()
    assert (state["ActiveState"], state["Result"], state["ExecMainStatus"]) == ("inactive", "success", "0")
    assert service.machine.run("pgrep", "--uid", "captiond", check=False) == ""

    service.machine.run("systemctl", "start", service.unit, timeout_s=300)
    service.wait_done(more)
