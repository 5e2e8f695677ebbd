"""Deeds of a decoder that was taken over. A copy of this file is imported by the decoder under test, before its cage.

Each deed is held when it raises, or returns what says that the kernel refused; it is open otherwise. It may not import
anything of ours: it stands for code that came in through a fault of a codec.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
MARK = b"RIFF captiond probe "  # begins a clip that asks for the deeds; the rest of it is the context as a literal

# system calls that no C library wraps under a name of its own, on x86-64
X86_64 = {
    "prlimit64": 302,
    "shmget": 29, "semget": 64, "msgget": 68, "ptrace": 101, "tkill": 200, "add_key": 248, "tgkill": 234,
    "unshare": 272, "perf_event_open": 298, "process_vm_readv": 310, "execveat": 322, "bpf": 321,
    "userfaultfd": 323, "rt_sigqueueinfo": 129, "open_by_handle_at": 304, "pidfd_send_signal": 424,
    "io_uring_setup": 425, "clone3": 435, "mount": 165, "personality": 135, "inotify_init1": 294,
    "mlock": 149, "fork": 57, "vfork": 58, "prctl": 157,
}  # fmt: skip


@dataclass(frozen=True)
class Context:
    """What the deeds aim at."""

    daemon: int
    inbox: str
    neighbour: str
    secret: str


def call(name: str, *arguments: Any) -> None:
    """Make a system call; :class:`OSError` when the kernel refuses."""
    ctypes.set_errno(0)
    if LIBC.syscall(X86_64[name], *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def read(path: str) -> None:
    """Read a file."""
    with open(path, "rb") as file:
        file.read(16)


def connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> None:
    """Make a socket and connect it."""
    with socket.socket(family, kind) as made:
        made.settimeout(1.0)
        with contextlib.suppress(ConnectionRefusedError):  # the kernel let us try
            made.connect(address)


def owned_signal(at: Context) -> None:
    """Have the kernel send the daemon a signal whenever our socket can be read."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            fcntl.fcntl(descriptor, fcntl.F_SETOWN, at.daemon)
            return
    raise OSError(errno.EPERM, "no descriptor takes an owner")


def on_a_thread(deed: Callable[[], object]) -> None:
    """Do a deed on a thread of its own, as the first escape did."""
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            deed()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome[0] is not None:
        raise outcome[0]


def in_a_signal_handler(deed: Callable[[], object]) -> None:
    """Do a deed in the handler of a signal."""
    outcome: list[BaseException | None] = []

    def handler(*_: object) -> None:
        try:
            deed()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    signal.signal(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
    if outcome and outcome[0] is None:
        return
    raise outcome[0] if outcome and outcome[0] else OSError(errno.EPERM, "no signal came")


def many_threads() -> None:
    """Start 3,000 threads."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    old = threading.stack_size(65536)
    try:
        for _ in range(3000):
            threads.append(threading.Thread(target=stop.wait, daemon=True))
            threads[-1].start()
    finally:
        stop.set()
        threading.stack_size(old)
        for thread in threads:
            if thread.ident is not None:
                thread.join(10)


def executable_memory() -> None:
    """Map memory that can be written and run."""
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def memory_made_executable() -> None:
    """Make memory that was written executable."""
    block = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    if LIBC.mprotect(ctypes.c_void_p(address), 4096, 5) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def type_into_the_terminal() -> None:
    """Put a character into the input of whoever started the daemon (TIOCSTI)."""
    for descriptor in (0, 1, 2):
        fcntl.ioctl(descriptor, 0x5412, b"x")


def deeds(at: Context) -> dict[str, Callable[[], object]]:
    """Return every deed by its name, in a fixed order."""
    inbox, daemon = Path(at.inbox), at.daemon
    own = os.getpid()
    vector = struct.pack("QQ", 0, 0)
    return {
        # reading
        "read /etc/passwd": lambda: read("/etc/passwd"),
        "read the credential": lambda: read(at.secret),
        "read a neighbour's clip": lambda: read(at.neighbour),
        "read the daemon's environment": lambda: read(f"/proc/{daemon}/environ"),
        "read the daemon's memory": lambda: read(f"/proc/{daemon}/mem"),
        "read the daemon's maps": lambda: read(f"/proc/{daemon}/maps"),
        "list the daemon's descriptors": lambda: os.listdir(f"/proc/{daemon}/fd"),
        "list the inbox": lambda: os.listdir(at.inbox),
        "list the root": lambda: os.listdir("/"),
        "list the processes": lambda: os.listdir("/proc"),
        "open a descriptor again": lambda: read("/proc/self/fd/0"),
        "copy memory of the daemon": lambda: call("process_vm_readv", daemon, vector, 1, vector, 1, 0),
        # writing and changing files
        "write a file in /tmp": lambda: open("/tmp/captiond-probe", "w"),
        "write into the inbox": lambda: open(inbox / "probe", "wb"),
        "make a folder": lambda: os.mkdir(inbox / "probe"),
        "make a FIFO": lambda: os.mkfifo(inbox / "probe"),
        "make a node": lambda: os.mknod(inbox / "probe", 0o100600),
        "make a symbolic link": lambda: os.symlink("/etc", inbox / "probe"),
        "make a hard link": lambda: os.link(at.neighbour, inbox / "probe"),
        "rename a clip": lambda: os.rename(at.neighbour, inbox / "probe"),
        "delete a clip": lambda: os.unlink(at.neighbour),
        "truncate a clip": lambda: os.truncate(at.neighbour, 0),
        "change a clip's times": lambda: os.utime(at.neighbour, (1, 1)),
        "change a clip's mode": lambda: os.chmod(at.neighbour, 0o777),  # noqa: S103
        "set an extended attribute": lambda: os.setxattr(at.neighbour, "user.probe", b"x"),
        "open a file by its handle": lambda: call("open_by_handle_at", -100, vector, 0),
        "make a memory file": lambda: os.memfd_create("probe"),
        # programs, threads and code
        "fork": lambda: call("fork"),
        "vfork": lambda: call("vfork"),
        "clone3": lambda: call("clone3", vector, 64),
        "run a program": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        "run a program by descriptor": lambda: call("execveat", 0, b"", 0, 0, 0x1000),
        "run a program on a thread": lambda: on_a_thread(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606
        "start 3,000 threads": many_threads,
        "map executable memory": executable_memory,
        "make memory executable": memory_made_executable,
        # the network
        "a TCP connection": lambda: connect(socket.AF_INET, ("127.0.0.1", 9)),
        "a TCP connection over IPv6": lambda: connect(socket.AF_INET6, ("::1", 9)),
        "a UDP datagram": lambda: connect(socket.AF_INET, ("127.0.0.1", 9), socket.SOCK_DGRAM),
        "a TCP connection on a thread": lambda: on_a_thread(lambda: connect(socket.AF_INET, ("127.0.0.1", 9))),
        "a TCP connection in a signal handler": lambda: in_a_signal_handler(
            lambda: connect(socket.AF_INET, ("127.0.0.1", 9))
        ),
        "a socket of the system": lambda: connect(socket.AF_UNIX, "/run/systemd/notify", socket.SOCK_DGRAM),
        "an abstract socket": lambda: connect(socket.AF_UNIX, "\0captiond-probe"),
        "a netlink socket": lambda: socket.socket(16, socket.SOCK_RAW),
        "a socket pair": socket.socketpair,
        # the daemon and other processes
        "signal the daemon by kill": lambda: os.kill(daemon, signal.SIGCONT),
        "signal the daemon by tkill": lambda: call("tkill", daemon, signal.SIGCONT),
        "signal the daemon by tgkill": lambda: call("tgkill", daemon, daemon, signal.SIGCONT),
        "signal the daemon by sigqueue": lambda: call("rt_sigqueueinfo", daemon, signal.SIGCONT, bytes(128)),
        "signal the daemon by a descriptor": lambda: call("pidfd_send_signal", 0, signal.SIGCONT, 0, 0),
        "signal the daemon as a socket's owner": lambda: owned_signal(at),
        "open the daemon as a descriptor": lambda: os.pidfd_open(daemon),
        "trace the daemon": lambda: call("ptrace", 16, daemon, 0, 0),
        "change the daemon's limits": lambda: resource.prlimit(daemon, resource.RLIMIT_NOFILE, (8, 8)),
        "read the daemon's limits": lambda: resource.prlimit(daemon, resource.RLIMIT_NOFILE),
        "change the daemon's processors": lambda: os.sched_setaffinity(daemon, {0}),
        "change the daemon's priority": lambda: os.setpriority(os.PRIO_PROCESS, daemon, 19),
        "type into the terminal": type_into_the_terminal,
        "any ioctl": lambda: fcntl.ioctl(0, 0x541B, b"0000"),
        # the kernel's other doors
        "shared memory of System V": lambda: call("shmget", 0, 4096, 0o1600),
        "a semaphore of System V": lambda: call("semget", 0, 1, 0o1600),
        "a message queue of System V": lambda: call("msgget", 0, 0o1600),
        "a key": lambda: call("add_key", b"user", b"probe", b"x", 1, -4),
        "a namespace": lambda: call("unshare", 0x10000000),
        "io_uring": lambda: call("io_uring_setup", 1, bytes(128)),
        "bpf": lambda: call("bpf", 0, bytes(64), 64),
        "perf": lambda: call("perf_event_open", bytes(128), 0, -1, -1, 0),
        "userfaultfd": lambda: call("userfaultfd", 0),
        "a mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        "a watch on files": lambda: call("inotify_init1", 0),
        "another personality": lambda: call("personality", 0x0040000),
        "its own limits raised": lambda: call("prlimit64", 0, resource.RLIMIT_FSIZE, struct.pack("QQ", 4096, 4096), 0),
        "its own processors": lambda: os.sched_setaffinity(own, {0}),
        "its own death signal": lambda: call("prctl", 1, 0, 0, 0, 0),
        "dumps of itself": lambda: call("prctl", 4, 1, 0, 0, 0),
        "locked memory": lambda: call("mlock", vector, 16),
        "more than its memory": lambda: bytearray(64 * 2**30),
    }


def outcome(at: Context) -> str:
    """Do every deed and return ``1`` for each that was held and ``0`` for each that was open, in their order."""
    return "".join("1" if is_held(name, deed) else "0" for name, deed in deeds(at).items())


def is_held(name: str, deed: Callable[[], object]) -> bool:
    """Do a deed; what was open is said on standard error."""
    try:
        said = repr(deed())
    except MemoryError:
        return True
    except RuntimeError as error:  # how Python says that a thread can't be started
        if "thread" in str(error):
            return True
        said = repr(error)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            return True
        said = repr(error)
    os.write(2, f"open: {name}: {said}\n".encode())
    return False


def probe(clip: bytes) -> str:
    """Return the outcome for the context that a clip names."""
    return outcome(Context(**eval(clip[len(MARK) :].decode().split("\n")[0])))  # noqa: S307 - the test wrote it
