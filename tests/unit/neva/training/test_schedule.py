"""The learning rate's course; NeMo's numbers are those of its own ``CosineAnnealing`` (tests/neva/against_nemo.py)."""

import logging

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.training.loop import make_optimiser  # noqa: E402
from neva.training.schedule import make_schedule  # noqa: E402
from neva.training.settings import OptimSettings, ScheduleSettings  # noqa: E402

NEMO_WARM = [0.3333333333333333, 0.6666666666666666, 1.0, 0.8681980515339464, 0.55, 0.23180194846605365, 0.1]
NEMO_CONSTANT = [0.0, 0.5, 1.0, 0.55, 0.1, 0.1, 0.1]


def rates(steps: int, **sched: float) -> list[float]:
    optim = OptimSettings(lr=1.0, sched=ScheduleSettings(min_lr=0.1, **sched))  # type: ignore[arg-type]
    optimiser = make_optimiser([torch.nn.Parameter(torch.zeros(1))], optim)
    schedule, found = make_schedule(optimiser, optim, steps), []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    return [*found, schedule.get_last_lr()[0]]


def test_up_a_line_and_down_a_cosine() -> None:
    found = rates(100, warmup_steps=20)

    assert found[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert found[20] == pytest.approx(1.0)
    assert found[60] == pytest.approx(0.55)  # half way down
    assert found[100] == pytest.approx(0.1)
    assert found[20:] == sorted(found[20:], reverse=True)


def test_the_last_steps_are_constant() -> None:
    found = rates(100, warmup_steps=20, constant_steps=30)

    assert found[70:] == pytest.approx([0.1] * 31)
    assert found[69] > 0.1001


def test_the_rates_are_nemos_to_the_last_bit() -> None:
    assert rates(6, warmup_steps=2) == NEMO_WARM
    assert rates(6, warmup_steps=2, constant_steps=2) == NEMO_CONSTANT


def test_a_short_run_warms_up_to_its_end_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = rates(40, warmup_steps=1000)

    assert found == sorted(found)
    assert found[39] == 40 / 1001
    assert "the rate rises to the end and reaches 0.04 of 1" in caplog.text


def test_the_lowest_rate_is_not_above_the_highest() -> None:
    optim = OptimSettings(lr=1e-3, sched=ScheduleSettings(min_lr=1e-2))
    optimiser = make_optimiser([torch.nn.Parameter(torch.zeros(1))], optim)

    with pytest.raises(ConfigurationError, match=r"is above optim\.lr"):
        make_schedule(optimiser, optim, 10)


def test_a_schedule_goes_on_from_its_state() -> None:
    optim = OptimSettings(lr=1.0, sched=ScheduleSettings(min_lr=0.1, warmup_steps=2))
    made = [make_optimiser([torch.nn.Parameter(torch.zeros(1))], optim) for _ in range(2)]
    first, second = (make_schedule(optimiser, optim, 10) for optimiser in made)
    for _ in range(4):
        made[0].step()
        first.step()

    second.load_state_dict(first.state_dict())
    made[1].step()
    second.step()

    made[0].step()
    first.step()
    assert second.get_last_lr() == first.get_last_lr()
