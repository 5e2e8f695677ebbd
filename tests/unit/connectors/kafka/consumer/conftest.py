"""The consumer thread's back-off and log, for its tests."""

import logging

import pytest

from connectors.kafka.client import outage


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(outage, "BACK_OFF_S", (0.001,))
    caplog.set_level(logging.INFO)
