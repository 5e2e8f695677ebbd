"""The share of captions that are not good: a metric, and a warning once."""

import logging
from dataclasses import replace

import pytest

from connectors.contract import CaptionStatus
from daemon.answers.watch import QualityWatch
from daemon.telemetry.metrics import Metrics
from tests.unit.connectors.messages.test_schema import CAPTION

GOOD = replace(CAPTION, status=CaptionStatus.SUCCESS)
BAD = replace(CAPTION, status=CaptionStatus.LOOPING)
UNASKED = replace(CAPTION, status=CaptionStatus.EMPTY, input="black")


def test_a_share_above_the_alarm_is_said_once_and_again_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    watch = QualityWatch(metrics)

    watch.look("inbox", [BAD] * 5, 0.2)
    assert not caplog.records  # too few to say anything
    watch.look("inbox", [GOOD] * 10 + [UNASKED] * 50 + [BAD] * 20, 0.2)
    watch.look("inbox", [BAD] * 5, 0.2)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Source inbox: " in caplog.text
    watch.look("inbox", [GOOD] * 100, 0.2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert metrics.total(metrics.bad_captions) == 0


def test_each_question_has_its_own_share(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    watch = QualityWatch(metrics)

    for _ in range(30):
        watch.look("inbox", [replace(BAD, prompt="alert"), replace(GOOD, prompt="caption")], 0.5)

    assert metrics.total(metrics.bad_captions) == 1.0
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["Source inbox, question alert"]
