"""Both promises of delivery, as parameters of tests over a real broker."""

import pytest

EACH_DELIVERY = pytest.mark.parametrize("delivery", ["at_least_once", "transactional"])

# for tests that take many seconds: each run has the promise that is harder to keep, `make thorough` has both
SLOW_DELIVERY = pytest.mark.parametrize(
    "delivery", [pytest.param("at_least_once", marks=pytest.mark.thorough), "transactional"]
)
SLOW_TRANSACTIONAL = pytest.mark.parametrize(
    "transactional",
    [pytest.param(False, id="at_least_once", marks=pytest.mark.thorough), pytest.param(True, id="transactional")],
)
