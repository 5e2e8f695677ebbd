"""The mixture of several data files, as NeMo blends them, and the order of its samples.

The next sample is taken from the file whose share is furthest behind its probability, so the mixture is right after any
number of samples. Each file's records come in its own order, and from the beginning again once they have all come.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from neva.training.samples import SampleOrder

_MARGIN = 1.005  # NeMo blends that much more than a run needs


def blended(sizes: Sequence[int], probabilities: Sequence[float] | None, samples: int) -> NDArray[np.int64] | None:
    """Return the numbers of the records of a run of ``samples`` samples; None where there is one file.

    ``sizes`` are the numbers of records in each file, which are numbered through; ``probabilities`` need not sum to 1,
    and None means that all files are alike.
    """
    if len(sizes) == 1:
        return None
    weights = np.asarray(probabilities or [1 / len(sizes)] * len(sizes), dtype=np.float64)
    weights = weights / weights.sum()
    size = sum(math.ceil(samples * weight * _MARGIN) for weight in weights.tolist())
    shares, firsts = weights.tolist(), [0, *accumulate(sizes[:-1])]
    taken, chosen = [0] * len(sizes), np.zeros(size, dtype=np.int64)
    for number in range(size):
        behind, least = 0, -math.inf
        for file, share in enumerate(shares):
            error = share * max(number, 1) - taken[file]
            if error > least:
                behind, least = file, error
        chosen[number] = firsts[behind] + taken[behind] % sizes[behind]
        taken[behind] += 1
    return chosen


class BlendedOrder:
    """The batches of an order over a blend's samples, as the numbers of their records."""

    drop_last = True  # tells Accelerate that no batch is shorter than the others

    def __init__(self, order: SampleOrder, blend: NDArray[np.int64]) -> None:
        self.batch_size = order.batch_size
        self._order, self._blend = order, blend

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._order:
            yield [int(self._blend[place]) for place in batch]
