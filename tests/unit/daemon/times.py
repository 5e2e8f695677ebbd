"""Times of media."""

import numpy as np

from daemon.windows import (
    NS_PER_S,
)


def seconds(*values: float) -> np.ndarray:
    return np.array([round(value * NS_PER_S) for value in values], np.int64)
