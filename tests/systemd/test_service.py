"""The service under a real systemd, each test with the state that systemd itself reports."""

import signal
import time

import pytest

from tests.systemd.machine import Machine
from tests.systemd.service import Service

pytestmark = [pytest.mark.systemd, pytest.mark.slow, pytest.mark.timeout(240)]

ONCE = "/var/lib/captiond/struck"


def script(service: Service, text: str) -> str:
    """Give the fake engine a script of faults and return how the configuration names it."""
    service.machine.path("/etc/captiond/faults.yaml").write_text(f"{text}\nonce: {ONCE}\n")
    return "{kind: fake, delay_ms: 30, slots: 4, script: /etc/captiond/faults.yaml}"


def start_under_load(service: Service, clips: int, written: int, engine: str) -> list[str]:
    """Start the service, and wait until so many windows of its clips are captioned; return the clips' names."""
    service.configure(engine=engine)
    service.start()
    names = service.put(clips)
    service.wait_written(written)
    return names


def test_the_configuration_that_is_installed_fails_once_and_is_not_tried_again(service: Service) -> None:
    shipped = (service.machine.tree / "etc/captiond/captiond.yaml").read_text()
    service.machine.path("/etc/captiond/captiond.yaml").write_text(shipped)

    said = service.machine.run("systemctl", "start", service.unit, check=False)

    state = service.wait_for(ActiveState="failed")
    assert "failed" in said
    assert (state["Result"], state["ExecMainStatus"], state["NRestarts"]) == ("exit-code", "78", "0")
    assert "no model is named" in service.journal()


def test_ready_confined_and_captioning(service: Service) -> None:
    service.start()

    state = service.wait_for(ActiveState="active", SubState="running", StatusText="Ready")
    status = service.machine.run("cat", f"/proc/{state['MainPID']}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (facts["NoNewPrivs"], facts["Seccomp"], facts["CapBnd"]) == ("1", "2", "0000000000000000")
    service.wait_done(service.put(3))


def test_a_reload_with_clips_in_flight(service: Service) -> None:
    names = start_under_load(service, 4, 2, "{kind: fake, delay_ms: 150, slots: 2}")

    service.configure(engine="{kind: fake, delay_ms: 150, slots: 2}", more="prompt: {text: 'What moves?'}\n")
    service.machine.run("systemctl", "reload", service.unit)
    service.wait_for(ActiveState="active", StatusText="Ready", SubState="running")
    service.wait_done(names)
    service.wait_done(later := service.put(1, first=50))

    before, after = service.captions(names[0]), service.captions(later[0])
    assert len({str(message["prompt_hash"]) for message in before}) == 1
    assert before[0]["prompt_hash"] != after[0]["prompt_hash"]
    assert "prompt.text changed" in service.state()["StatusText"]


@pytest.mark.parametrize(
    ("key", "answer"),
    [("timeouts: {drain_s: 5}\n", "timeouts.drain_s needs a restart"), ("promt: {}\n", "the configuration is wrong")],
)
def test_a_reload_that_is_refused_leaves_everything_as_it_was(service: Service, key: str, answer: str) -> None:
    service.start()
    service.configure(more=key)

    service.machine.run("systemctl", "reload", service.unit)

    deadline_s = time.monotonic() + 20
    while answer not in service.state()["StatusText"] and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert answer in service.state()["StatusText"]
    service.wait_done(service.put(1))


def test_an_engine_that_dies_is_started_again_and_nothing_is_lost(service: Service) -> None:
    service.configure(engine=script(service, "die_at_request: 9"))
    service.start()
    names = service.put(6)

    service.wait_done(names)

    state = service.wait_for(ActiveState="active", NRestarts="1")
    assert state["Result"] == "success"
    assert "never retrieved" not in service.journal()
    assert 'captiond_restarts_total{ended="engine_lost"} 1.0' in service.machine.run(
        "/opt/captiond/bin/python", "-c", _METRICS
    )


_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:18500/metrics').read().decode())"


def test_an_engine_that_hangs_is_found_out(service: Service) -> None:
    service.configure(engine=script(service, "hang_at_request: 9"), more="timeouts: {stall_s: 2.0}\n")
    service.start()
    names = service.put(6)

    service.wait_done(names)

    assert service.wait_for(ActiveState="active", NRestarts="1")
    assert "No progress of the engine for 2 s" in service.journal()


def test_a_program_that_hangs_is_ended_by_the_watchdog(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\n")
    names = start_under_load(service, 6, 3, "{kind: fake, delay_ms: 100, slots: 2}")
    inside = service.state()["MainPID"]

    service.machine.run("kill", "-STOP", inside)

    service.wait_for(NRestarts="1", ActiveState="active")
    assert f"{service.unit}: Watchdog timeout (limit 2s)" in service.journal()
    service.wait_done(names)


def test_a_stop_under_load_loses_nothing_and_repeats_nothing(service: Service) -> None:
    names = start_under_load(service, 12, 5, "{kind: fake, delay_ms: 100, slots: 2}")

    service.machine.run("systemctl", "stop", service.unit)

    state = service.state()
    assert (state["ActiveState"], state["Result"], state["ExecMainStatus"]) == ("inactive", "success", "0")
    assert service.written() < 12 * 6
    service.start()
    service.wait_done(names)


def test_a_kill_loses_nothing_and_leaves_no_process(service: Service) -> None:
    names = start_under_load(service, 8, 5, "{kind: fake, delay_ms: 50, slots: 2}")

    service.machine.run("systemctl", "kill", "--kill-whom=main", f"--signal={int(signal.SIGKILL)}", service.unit)

    service.wait_for(NRestarts="1", ActiveState="active")
    service.wait_done(names)
    service.machine.run("systemctl", "stop", service.unit)
    assert service.machine.run("pgrep", "--uid", "captiond", check=False) == ""


def test_the_journal_has_fields_and_priorities(service: Service) -> None:
    service.start()
    service.machine.path(f"{service.home}/inbox/words.mp4").write_bytes(b"no video " * 50)
    service.wait_done(service.put(1))
    entries = service.entries()
    while not any("CAPTIOND_REASON" in one or "Rejected" in str(one["MESSAGE"]) for one in entries):
        time.sleep(0.2)
        entries = service.entries()

    (captioned,) = [one for one in entries if str(one["MESSAGE"]).startswith("Captioned in 6 windows.")]
    (rejected,) = [one for one in entries if str(one["MESSAGE"]).startswith("Rejected as not_a_video")]
    assert (captioned["PRIORITY"], rejected["PRIORITY"]) == ("6", "4")
    assert captioned["CAPTIOND_CLIP_ID"] == service.captions("c000.mp4")[0]["clip_id"]
    assert {captioned["CAPTIOND_SOURCE"], rejected["CAPTIOND_SOURCE"]} == {"inbox"}
    assert {one["_SYSTEMD_UNIT"] for one in (captioned, rejected)} == {service.unit}
    assert {one["_TRANSPORT"] for one in (captioned, rejected)} == {"journal"}


def test_a_second_instance_runs_beside_the_first(service: Service) -> None:
    second = Service(service.machine, service.scratch, name="doors")
    second.make_instance()
    second.configure()
    service.start()
    second.start()

    second.wait_done(second.put(2))
    service.wait_done(service.put(2))

    pid = second.state()["MainPID"]
    assert service.machine.run("stat", "--format=%U", f"/proc/{pid}").strip() == "captiond-doors"
    folder = f"/proc/{pid}/root/run/credentials/{second.unit}"
    assert service.machine.run("ls", folder).split() == ["secret_of-doors"]
    assert second.wait_for(ActiveState="active", StatusText="Ready")["NRestarts"] == "0"
    service.machine.run("systemctl", "stop", second.unit)


def test_a_secret_reaches_the_daemon_alone(service: Service) -> None:
    service.machine.path("/etc/captiond/credentials/kafka-password").write_text("hush\n")
    service.start()

    pid = service.wait_for(ActiveState="active")["MainPID"]
    folder = f"/run/credentials/{service.unit}"
    secret = f"/proc/{pid}/root{folder}/secret_kafka-password"
    assert service.machine.run("cat", secret) == "hush\n"
    assert service.machine.run("stat", "--format=%a", secret).strip() in ("400", "440")
    environment = service.machine.run("cat", f"/proc/{pid}/environ")
    assert f"CREDENTIALS_DIRECTORY={folder}" in environment
    assert "hush" not in environment


def test_the_installed_units_are_clean_and_hardened(machine: Machine) -> None:
    units = ("captiond.service", "captiond@.service")

    said = machine.run("systemd-analyze", "verify", *(f"/usr/local/lib/systemd/system/{unit}" for unit in units))
    exposure = machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", units[0])

    assert said == ""
    assert "Overall exposure level" in exposure


def test_it_runs_as_its_own_user(service: Service) -> None:
    service.start()

    pid = service.wait_for(ActiveState="active")["MainPID"]
    owner = service.machine.run("stat", "--format=%U", f"/proc/{pid}").strip()
    assert owner == "captiond"


def test_recorders_in_a_service_of_their_own_outlive_the_daemons(service: Service) -> None:
    machine, lock = service.machine, f"{service.home}/streams/door/recording/lock"
    path = machine.path("/etc/captiond/captiond.yaml")
    service.configure()
    door = "  door: {kind: stream, url: 'udp://127.0.0.1:18999', record_while_down: true}\n"
    path.write_text(path.read_text().replace("sources:\n", f"sources:\n{door}"))
    machine.run("systemctl", "start", "captiond-record.service")
    try:
        recorder = machine.run("cat", lock).split()[0]
        machine.run("systemctl", "start", service.unit)
        machine.run("systemctl", "stop", service.unit)

        assert machine.run("cat", lock).split()[0] == recorder
        assert machine.run("cat", f"/proc/{recorder}/comm").strip()
        assert machine.show("captiond-record.service", "ActiveState")["ActiveState"] == "active"
    finally:
        machine.run("systemctl", "stop", "captiond-record.service")
    assert machine.show("captiond-record.service", "Result")["Result"] == "success"
