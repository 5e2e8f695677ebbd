"""Python's collector of garbage cycles, while clips are captioned.

Everything lives in one event loop, so a collection stops all clips. What the start made (the libraries' modules and
classes, millions of objects with vLLM) stays until the end: it is left out of collections from then on. What a window
makes is given back without the collector, so it looks seldom.
"""

import gc

_ALLOCATIONS = 20_000  # that are not given back, until a look: Python's own 700 are a few windows'
_YOUNG_LOOKS, _LOOKS = 20, 10  # at the youngest objects until one at older ones, as Python has them for the oldest


def settle() -> None:
    """Leave all that is there out of collections, and look for garbage less often. To be called once, when ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, _YOUNG_LOOKS, _LOOKS)


def unsettle() -> None:
    """Let the program's end give everything back: libraries complain of what is left."""
    gc.unfreeze()
