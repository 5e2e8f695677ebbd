"""System calls that caged processes may make, by name, and their numbers on each processor.

Everything that is not here is refused to each of them. The numbers are those of the Linux kernel's tables
(``arch/x86/entry/syscalls/syscall_64.tbl``, ``include/uapi/asm-generic/unistd.h``); -1 says that a processor does not
have the call.
"""

from connectors.cage.seccomp import Numbers

ALLOWED = {
    # talking to the program, and reading media that it opened
    "recvmsg": Numbers(47, 212),
    "recvfrom": Numbers(45, 207),
    "sendto": Numbers(44, 206),
    "sendmsg": Numbers(46, 211),
    "read": Numbers(0, 63),
    "readv": Numbers(19, 65),
    "pread64": Numbers(17, 67),
    "write": Numbers(1, 64),
    "pwrite64": Numbers(18, 68),
    "writev": Numbers(20, 66),
    "lseek": Numbers(8, 62),
    "close": Numbers(3, 57),
    "dup": Numbers(32, 23),
    "fadvise64": Numbers(221, 223),
    "poll": Numbers(7, -1),
    "ppoll": Numbers(271, 73),
    # memory; see CONDITIONS for what may not be executable
    "munmap": Numbers(11, 215),
    "mremap": Numbers(25, 216),
    "madvise": Numbers(28, 233),
    "brk": Numbers(12, 214),
    # looking at files: which may be opened is Landlock's to say
    "fstat": Numbers(5, 80),
    "newfstatat": Numbers(262, 79),
    "statx": Numbers(332, 291),
    "readlink": Numbers(89, -1),
    "readlinkat": Numbers(267, 78),
    "getdents64": Numbers(217, 61),
    # threads and their locks
    "futex": Numbers(202, 98),
    "set_robust_list": Numbers(273, 99),
    "rseq": Numbers(334, 293),
    "set_tid_address": Numbers(218, 96),
    "gettid": Numbers(186, 178),
    "sched_yield": Numbers(24, 124),
    "sched_getaffinity": Numbers(204, 123),
    "membarrier": Numbers(324, 283),
    "getcpu": Numbers(309, 168),
    "exit": Numbers(60, 93),
    "exit_group": Numbers(231, 94),
    # signals that this process sends itself by running, and time
    "rt_sigaction": Numbers(13, 134),
    "rt_sigprocmask": Numbers(14, 135),
    "rt_sigreturn": Numbers(15, 139),
    "sigaltstack": Numbers(131, 132),
    "restart_syscall": Numbers(219, 128),
    "clock_gettime": Numbers(228, 113),
    "clock_getres": Numbers(229, 114),
    "clock_nanosleep": Numbers(230, 115),
    "nanosleep": Numbers(35, 101),
    "gettimeofday": Numbers(96, 169),
    # what a process may know of itself
    "getpid": Numbers(39, 172),
    "getppid": Numbers(110, 173),
    "getuid": Numbers(102, 174),
    "geteuid": Numbers(107, 175),
    "getgid": Numbers(104, 176),
    "getegid": Numbers(108, 177),
    "getrusage": Numbers(98, 165),
    "sysinfo": Numbers(99, 179),
    "uname": Numbers(63, 160),
    "getrandom": Numbers(318, 278),
}
"""Calls that are allowed to decoders and recorders, whatever their arguments are."""

ALLOWED_WITH_DEVICES = {
    "eventfd2": Numbers(290, 19),
    "pipe2": Numbers(293, 59),
    "sched_getparam": Numbers(143, 121),
    "sched_getscheduler": Numbers(145, 120),
    "sched_get_priority_max": Numbers(146, 125),
    "sched_get_priority_min": Numbers(147, 126),
    "get_mempolicy": Numbers(239, 236),
}
"""Calls that the driver of a graphics card makes beside these."""

CONDITIONAL = {
    "mmap": Numbers(9, 222),
    "mprotect": Numbers(10, 226),
    "openat": Numbers(257, 56),
    "fcntl": Numbers(72, 25),
    "prctl": Numbers(157, 167),
    "prlimit64": Numbers(302, 261),
    "clone": Numbers(56, 220),
    "clone3": Numbers(435, 435),
    "ioctl": Numbers(16, 29),
}
"""Calls that cages allow with some arguments only."""
