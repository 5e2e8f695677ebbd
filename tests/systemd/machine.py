"""A real systemd as process 1 of its own namespaces, over a copy of the host's root that nothing comes back from.

The host's root is the lower layer of an overlay whose upper layer is in memory; it is all that the machine can reach
beside /proc, /dev and its own control groups. The host's own services are not there: what would set up or clean a real
machine (tmpfiles, sysctl, udev) is taken out before systemd starts. The control groups are children of one made for
this machine, in the host's own hierarchy (version 1 or 2), so that limits are enforced and all is gone afterwards.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from testing.repository import ROOT

SYSTEMD = "/lib/systemd/systemd"
CGROUPS = Path("/sys/fs/cgroup")
START_S = 30.0
_NAMESPACES = ("--mount", "--pid", "--cgroup", "--uts", "--ipc")

# $1: scratch folder; $2: what `make install` made, if anything; $3: systemd; $4: the environment that the tests run in.
# The control groups have been entered.
_INSIDE = """
set -eu
mount --make-rprivate /
mkdir -p "$1/memory" && mount -t tmpfs tmpfs "$1/memory"
mkdir "$1/memory/up" "$1/memory/work" "$1/memory/root"
root=$1/memory/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/memory/up,workdir=$1/memory/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t sysfs sysfs "$root/sys"
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    for kind in memory pids cpu devices; do
        [ -d "/sys/fs/cgroup/$kind" ] || continue
        mkdir "$root/sys/fs/cgroup/$kind" && mount -t cgroup -o "$kind" "$kind" "$root/sys/fs/cgroup/$kind"
    done
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd systemd "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
for fresh in /run /tmp /var/tmp; do mount -t tmpfs tmpfs "$root$fresh"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
if [ -n "$2" ]; then
    mkdir -p "$root/opt/captiond"
    mount --bind "$2/opt/captiond" "$root/opt/captiond"
    mount -o remount,bind,ro "$root/opt/captiond"
    cp -a "$2/etc/captiond" "$root/etc/"
    cp -a "$2/usr/local/." "$root/usr/local/"
fi
mkdir "$root/srv/environment"
mount --bind "$4" "$root/srv/environment"
mount -o remount,bind,ro "$root/srv/environment"
mkdir "$root/run/before"
cd "$root"
pivot_root . run/before
umount -l /run/before
# systemd mounts a unit's credentials in a namespace of their own and relies on them coming back
mount --make-rshared /
# from here on / is the machine's own; the host's services and set-up have no business in it
rm -rf /etc/systemd/system /lib/systemd/system/*.wants /lib/systemd/system-generators /var/log/journal
mkdir -p /etc/systemd/system /run/systemd/system
for unit in systemd-tmpfiles-setup systemd-tmpfiles-clean systemd-sysctl systemd-udevd systemd-remount-fs; do
    ln -s /dev/null "/etc/systemd/system/$unit.service"
done
printf '[Unit]\\nRequires=systemd-journald.service\\nDefaultDependencies=no\\n' \\
    > /run/systemd/system/captiond-test.target
exec "$3" --system --unit=captiond-test.target --log-target=journal
"""


def why_not() -> str | None:
    """Return why no systemd can be started here; None where it can."""
    for program in ("/usr/bin/unshare", "/usr/bin/nsenter", SYSTEMD):
        if shutil.which(program) is None:
            return f"there is no {program} here"
    if os.geteuid() != 0:
        return "namespaces with a systemd of their own need root"
    trial = subprocess.run(
        ["/usr/bin/unshare", *_NAMESPACES, "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if trial.returncode == 0 else f"unshare is refused: {trial.stderr.strip()}"


@dataclass
class Machine:
    """One systemd. ``tree`` is what ``DESTDIR=tree make install`` made; ``scratch`` is a folder that it may fill.

    Without a tree nothing is installed.
    """

    tree: Path | None
    scratch: Path
    name: str = "captiond-test"
    process: "subprocess.Popen[bytes] | None" = None
    pid: int = 0
    groups: list[Path] = field(default_factory=list)

    def start(self) -> None:
        """Start systemd and wait until it takes orders."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._make_groups()
        enter = " ".join(f"echo $$ > {group}/cgroup.procs;" for group in self.groups)
        # whatever ends this process ends the machine
        unshare = f"exec setpriv --pdeathsig KILL unshare {' '.join(_NAMESPACES)} --fork --kill-child --mount-proc"
        with (self.scratch / "systemd.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "/bin/bash",
                    "-c",
                    f'{enter} {unshare} bash -c "$0" inside "$@"',
                    _INSIDE,
                    *map(str, self._arguments()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_running()

    def _arguments(self) -> tuple[Path, Path | str, str, Path]:
        return self.scratch, self.tree or "", SYSTEMD, ROOT / ".venv"

    def _make_groups(self) -> None:
        if (CGROUPS / "cgroup.controllers").exists():
            self.groups = [CGROUPS / self.name]
        else:
            kinds = [kind for kind in CGROUPS.iterdir() if kind.is_dir() and not kind.is_symlink()]
            wanted = ("systemd", "memory", "pids", "cpu", "devices", "unified")
            self.groups = [kind / self.name for kind in kinds if kind.name in wanted]
        for group in self.groups:
            group.mkdir(exist_ok=True)

    def _wait_until_running(self) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            self.pid = self.pid or self._child()
            if self.pid and self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"systemd does not run: {(self.scratch / 'systemd.log').read_text()[-2000:]}")

    def _child(self) -> int:
        """Return the process that is process 1 inside, once systemd runs in it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            with suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return 0

    def run(self, *command: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """Run a command inside and return what it printed."""
        done = subprocess.run(
            ["/usr/bin/nsenter", "--target", str(self.pid), *_NAMESPACES, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit as systemd reports them."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(properties)}").splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def path(self, inside: str) -> Path:
        """Return a path of the machine as the host reaches it."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def journal(self, unit: str, after: str = "", output: str = "short-monotonic") -> str:
        """Return what a unit has logged, all of it or after a place that :meth:`journal_end` gave."""
        since = [f"--after-cursor={after}"] if after else []
        return self.run("journalctl", "--no-pager", "--all", "--unit", unit, f"--output={output}", *since, check=False)

    def journal_end(self) -> str:
        """Return the place in the journal where it ends now."""
        return self.run("journalctl", "--no-pager", "--lines=0", "--show-cursor").rpartition("cursor: ")[2].strip()

    def stop(self) -> None:
        """End systemd and everything in it, and take its control groups away."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=30)
        for group in self.groups:
            _remove_group(group)


def _remove_group(group: Path) -> None:
    """Remove a control group and those below it, as soon as the kernel has let their processes go."""
    deadline_s = time.monotonic() + 10.0
    while group.exists() and time.monotonic() < deadline_s:
        for below in sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
            with suppress(OSError):
                below.rmdir()
        with suppress(OSError):
            group.rmdir()
        time.sleep(0.05)
