"""The conversation with the service manager, over a real socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.service.sdnotify import ServiceManager


class NotifySocket:
    """Stands where systemd listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(5.0)

    def heard(self) -> str:
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@captiond-test-{os.getpid()}"
    opened = NotifySocket(address)
    yield opened
    opened.close()


def test_each_word_is_systemds(listening: NotifySocket) -> None:
    manager = ServiceManager(listening.address)
    words = []
    for speak in (manager.ready, manager.stopping, manager.alive):
        speak()
        words.append(listening.heard())
    manager.extend(1.5)
    words.append(listening.heard())

    assert words == ["READY=1", "STOPPING=1", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=1500000"]


def test_a_status_is_one_line(listening: NotifySocket) -> None:
    ServiceManager(listening.address).status("two\nREADY=1\nlines")

    assert listening.heard() == "STATUS=two READY=1 lines"


def test_a_reload_says_when_it_began(listening: NotifySocket) -> None:
    before_us = time.monotonic_ns() // 1000
    ServiceManager(listening.address).reloading()

    first, second = listening.heard().split("\n")
    assert first == "RELOADING=1"
    assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_without_a_service_manager_nothing_is_said() -> None:
    ServiceManager("").ready()


def test_a_service_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "nobody")).ready()


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("30000000", "{own}", 30.0),
        ("30000000", None, 30.0),
        ("30000000", "1", None),
        ("", "{own}", None),
        ("soon", "{own}", None),
    ],
)
def test_the_watchdogs_limit(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid.format(own=os.getpid()))

    assert ServiceManager("").watchdog_s == expected
