"""The mixture of several files, held against NeMo's own values."""

import pytest

from neva.training.dataset.blend import BlendedOrder, blended
from neva.training.samples import SampleOrder


def test_one_file_is_no_mixture() -> None:
    assert blended([5], None, 100) is None


def test_the_file_that_is_furthest_behind_is_next() -> None:
    found = blended([100, 100, 100], [0.5, 0.3, 0.2], 10)

    assert found is not None
    # ceil(10 * share * 1.005) of each file, 6 + 4 + 3 samples
    assert found.tolist() == [0, 100, 200, 1, 101, 2, 201, 3, 102, 4, 5, 103, 202]


def test_shares_need_not_sum_to_one_and_are_alike_where_none_are_given() -> None:
    assert blended([9, 9], [2, 2], 20) == pytest.approx(blended([9, 9], None, 20))


def test_a_short_file_comes_again_and_a_long_one_in_part() -> None:
    found = blended([100, 10], [0.5, 0.5], 110)

    assert found is not None
    first, second = [number for number in found if number < 100], [number - 100 for number in found if number >= 100]
    assert first == list(range(56))
    assert second == [number % 10 for number in range(56)]


def test_batches_hold_the_records_of_the_mixture() -> None:
    blend = blended([4, 2], [0.5, 0.5], 8)
    assert blend is not None
    order = SampleOrder(len(blend), 2, 3, 0, 5, shuffled=False)

    batches = BlendedOrder(order, blend)

    assert (len(batches), batches.batch_size) == (5, 2)
    assert [number for batch in batches for number in batch] == blend.tolist()
