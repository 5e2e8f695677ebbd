"""The optimiser."""

import pytest

torch = pytest.importorskip("torch")

from neva.training.loop import make_optimiser  # noqa: E402
from neva.training.settings import OptimSettings  # noqa: E402


def test_the_optimiser_has_nevas_numbers() -> None:
    optimiser = make_optimiser([torch.nn.Parameter(torch.zeros(1))], OptimSettings())

    assert optimiser.defaults["lr"] == 2e-3
    assert optimiser.defaults["betas"] == (0.9, 0.95)
    assert optimiser.defaults["weight_decay"] == 0.0
