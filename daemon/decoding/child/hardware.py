"""The graphics card as a decoder: what of NVIDIA's driver must be there before the cage closes, and what it decodes.

No machine with such a card has run this yet. Wherever the card, its driver or a clip can't, the processor decodes.
"""

import ctypes
from glob import glob

# what the driver opens: its control device, its memory manager, the capabilities of a part of a card, the cards
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps", "/dev/nvidia[0-9]*")
_FACTS = ("/proc/driver/nvidia", "/proc/devices", "/sys/bus/pci/devices", "/sys/devices", "/sys/module/nvidia")
_LIBRARIES = ("libcuda.so.1", "libnvcuvid.so.1")
# they come with the driver, and it asks for some of them by itself; behind the cage none could be loaded
_MORE_LIBRARIES = ("libnvidia-ptxjitcompiler.so.1", "libnvidia-gpucomp.so.1")

_8_BITS = frozenset({"yuv420p", "yuvj420p"})
_10_BITS = _8_BITS | {"yuv420p10le"}
# what NVIDIA's decoders of any age since 2016 take; NVIDIA's own table has more for newer cards
_DECODED = {
    "h264": _8_BITS,
    "hevc": _10_BITS,
    "vp8": _8_BITS,
    "vp9": _10_BITS,
    "mpeg1video": _8_BITS,
    "mpeg2video": _8_BITS,
    "mpeg4": _8_BITS,
    "vc1": _8_BITS,
}


def device_files() -> list[str]:
    """Return the files through which a program reaches the cards; none where there is no card."""
    found = sorted(path for pattern in _DEVICE_FILES for path in glob(pattern))
    return found if any(path.removeprefix("/dev/nvidia").isdigit() for path in found) else []


def fact_folders() -> list[str]:
    """Return what the driver reads about the machine."""
    return list(_FACTS)


def load_driver() -> str:
    """Load the libraries of the driver, and return why they can't be; nothing where they are there."""
    for name in (*_LIBRARIES, *_MORE_LIBRARIES):
        try:
            ctypes.CDLL(name)
        except OSError as error:
            if name in _LIBRARIES:
                return f"{name} can't be loaded: {error}"
    return ""


def is_decoded(codec: str, pixel_format: str | None) -> bool:
    """Whether cards decode a codec with these colours and this depth."""
    return pixel_format in _DECODED.get(codec, ())
