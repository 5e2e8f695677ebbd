"""The learning rate's course."""

import pytest

torch = pytest.importorskip("torch")

from neva.training.loop import make_optimiser, make_schedule  # noqa: E402
from neva.training.settings import OptimSettings, ScheduleSettings  # noqa: E402


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


def test_a_short_run_warms_up_for_a_quarter() -> None:
    found = rates(40, warmup_steps=1000)

    assert found.index(max(found)) == 10


def test_the_optimiser_has_nevas_numbers() -> None:
    optimiser = make_optimiser([torch.nn.Parameter(torch.zeros(1))], OptimSettings())

    assert optimiser.defaults["lr"] == 2e-3
    assert optimiser.defaults["betas"] == (0.9, 0.95)
    assert optimiser.defaults["weight_decay"] == 0.0
