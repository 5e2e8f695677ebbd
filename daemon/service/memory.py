"""Memory that is given back: garbage cycles at the start, while clips are captioned and at the end, and large pieces.

Everything lives in one event loop, so a collection stops all clips. What the start made (the libraries' modules and
classes, millions of objects with vLLM) stays until the end: it is left out of collections from then on. What a window
makes is given back without the collector, so it looks seldom.
"""

import ctypes
import gc
import sys

_ALLOCATIONS = 20_000  # that are not given back, until a look: Python's own 700 are a few windows'
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 2**20  # glibc's malloc.h
_YOUNG_LOOKS, _LOOKS = 20, 10  # at the youngest objects until one at older ones, as Python has them for the oldest


def look_seldom() -> None:
    """Look for garbage less often: imports make hardly any, and looking takes them a sixth of their time."""
    gc.set_threshold(_ALLOCATIONS, _YOUNG_LOOKS, _LOOKS)


def settle() -> None:
    """Leave all that is there out of collections, and give large pieces back at once. To be called once, when ready."""
    gc.collect()
    gc.freeze()
    _give_large_pieces_back()


def _give_large_pieces_back() -> None:
    """Let the system have a large piece of memory again as soon as it is free.

    glibc keeps pieces as large as the largest that was ever given back. Between smaller ones the values of clips, each
    of another size, then leave holes: a backlog of clips of 8 MB cost a third more than what was held of them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def unsettle() -> None:
    """Let the program's end give everything back again."""
    gc.unfreeze()


def leave_to_the_system() -> None:
    """Spare the program's end a look through all that is there, a tenth of a second; the last thing to be called.

    Libraries that come with vLLM complain of what is not given back.
    """
    if "vllm" not in sys.modules:
        gc.freeze()
