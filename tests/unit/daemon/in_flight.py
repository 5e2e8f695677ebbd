"""Files of the clips in flight, one daemon's after another's."""

import time
from pathlib import Path

from connectors.contract import Clip
from connectors.media.bytes import BytesMedia
from daemon.in_flight_file import InFlightFile


def clip(name: str) -> Clip:
    return Clip(name, "inbox", BytesMedia(name, b"x"), time.time_ns())


A, B, C = clip("a"), clip("b"), clip("c")


def after(tmp_path: Path, file: InFlightFile) -> InFlightFile:
    """Return the next daemon's, after one that was killed."""
    file.abandon()
    return opened_next(tmp_path)


def opened_next(tmp_path: Path) -> InFlightFile:
    found = InFlightFile(tmp_path, 4)
    found.open()
    return found
