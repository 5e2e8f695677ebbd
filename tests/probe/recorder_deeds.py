"""Deeds of a recorder that was taken over, beside those of a decoder. A copy of this file is imported by the recorder.

Like the others it stands for code that came in through a fault, here of a demuxer: it imports nothing of ours.
"""

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAY = {
    "a TCP connection", "a TCP connection over IPv6", "a UDP datagram", "a TCP connection on a thread",
    "a TCP connection in a signal handler", "any ioctl", "open a descriptor again",
}  # fmt: skip
"""Deeds of a decoder that a recorder may do: it is there to connect, and asks how much has come.

Its descriptors 0 and 1 are pipes from and to the daemon, which are open anyway; a decoder has none.
"""


@dataclass(frozen=True)
class Places:
    """What the deeds aim at: its own folder, the one around it, and the daemon's configuration.

    ``secrets`` are written backwards, so that what is looked for stands nowhere.
    """

    own: str
    around: str
    config: str
    secrets: tuple[str, ...]


def listen() -> None:
    """Listen for whoever connects over TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.bind(("127.0.0.1", 0))
        made.listen(1)


def listen_unbound() -> None:
    """Listen without naming a port, which the kernel then picks."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.listen(1)


def large_file(folder: Path) -> None:
    """Make a file of a gigabyte in its own folder."""
    file = os.open(folder / "large", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.ftruncate(file, 2**30)
    except OSError as error:
        raise OSError(errno.EPERM if error.errno == errno.EFBIG else error.errno, "large") from error
    finally:
        os.close(file)


def move_out(folder: Path, around: Path) -> None:
    """Put a file of its own where others are."""
    (folder / "moved").write_text("probe")
    (folder / "moved").rename(around / "moved")


def own_environment(secrets: tuple[str, ...]) -> None:
    """Find a secret in its environment."""
    if not any(secret in value[::-1] for secret in secrets for value in os.environ.values()):
        raise OSError(errno.EPERM, "there is none")


def deeds(at: Places, of_decoders: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Return every deed by its name, in a fixed order."""
    own, around = Path(at.own), Path(at.around)
    mine: dict[str, Callable[[], object]] = {
        "read the configuration": lambda: Path(at.config).read_bytes(),
        "read the position beside its folder": lambda: (around / "beside").read_bytes(),
        "list the folder around its own": lambda: os.listdir(around),
        "read the environment of the first process": lambda: Path("/proc/1/environ").read_bytes(),
        "read a private key of the machine": lambda: os.listdir("/etc/ssl/private"),
        "find a secret in its environment": lambda: own_environment(at.secrets),
        "write beside its folder": lambda: (around / "probe").write_text("probe"),
        "change what is beside its folder": lambda: (around / "beside").write_text("probe"),
        "move a file out of its folder": lambda: move_out(own, around),
        "make a folder in its own": lambda: os.mkdir(own / "probe"),
        "make a symbolic link in its own": lambda: os.symlink("/etc/passwd", own / "link"),
        "make a hard link into its own": lambda: os.link(around / "beside", own / "linked"),
        "make a FIFO in its own": lambda: os.mkfifo(own / "fifo"),
        "make a file of its own executable": lambda: os.chmod(own / "outcome", 0o700),
        "make a file of a gigabyte": lambda: large_file(own),
        "listen on a TCP port": listen,
        "listen on a port that the kernel picks": listen_unbound,
        "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "a socket of packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "signal every process": lambda: os.kill(-1, 0),
    }
    return {**{name: deed for name, deed in of_decoders.items() if name not in MAY}, **mine}
