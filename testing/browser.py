"""A headless Chromium, spoken to over its DevTools protocol by a pair of pipes: no port, no driver, no package."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
NONE = "no Chromium: install Debian's package chromium to run this test"

_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--autoplay-policy=no-user-gesture-required", "--mute-audio", "--enable-precise-memory-info"),
    "--disable-dev-shm-usage",
]


def program() -> str | None:
    """Return the browser's path; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Pipe:
    """The protocol: a call is answered by the message with its number; events are kept until they are asked for."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes, self._data, self._number = reads, writes, b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a call."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writes, data) :]
        while True:
            answer = self.read(120.0)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def read(self, timeout_s: float) -> dict[str, Any]:
        """Return the next message; events are remembered too."""
        answers = select.poll()  # which takes descriptors of any number
        answers.register(self._reads, select.POLLIN)
        while b"\0" not in self._data:
            if not answers.poll(timeout_s * 1000):
                raise TimeoutError("the browser does not answer")
            data = os.read(self._reads, 1 << 20)
            if not data:
                raise EOFError("the browser ended")
            self._data += data
        line, _, self._data = self._data.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


class Page:
    """One page of the browser."""

    def __init__(self, pipe: Pipe, width: int, height: int, context: str | None = None) -> None:
        self._pipe = pipe
        where = {} if context is None else {"browserContextId": context}
        self._target = pipe.call("Target.createTarget", url="about:blank", **where)["targetId"]
        self._session = pipe.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a call about this page."""
        return self._pipe.call(method, self._session, **parameters)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Give the page another size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def dark(self, is_dark: bool = True) -> None:
        """Let the person prefer dark pages, or light ones."""
        value = "dark" if is_dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def open(self, url: str) -> None:
        """Load a page; its scripts have run once when this returns."""
        self.call("Page.navigate", url=url)
        self.until("location.href != 'about:blank' && document.readyState == 'complete'")

    def __call__(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, expression: str, timeout_s: float = 60.0) -> Any:
        """Return the value of an expression once it is true."""
        end_s = time.monotonic() + timeout_s
        while not (found := self(expression)):
            if time.monotonic() > end_s:
                raise TimeoutError(f"{expression} never became true; the page shows {self('document.body.innerText')}")
            time.sleep(0.02)
        return found

    def complaints(self) -> list[str]:
        """Return what the page wrote into the console as errors, what it threw, and what the policy forbade."""
        self("0")
        found = []
        for event in self._pipe.events:
            if event.get("sessionId") != self._session:
                continue
            method, said = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(str(said["exceptionDetails"]))
            elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(said["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and said["type"] == "error":
                found.append(str(said["args"]))
        return found

    def press(self, key: str) -> None:
        """Press a key and let go of it."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9}
        more = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG or WebP, by the name's ending."""
        kind = path.suffix.removeprefix(".")
        more = {"quality": 85} if kind == "webp" else {}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format=kind, **more)["data"]))

    def close(self) -> None:
        """Close the page."""
        self._pipe.call("Target.closeTarget", targetId=self._target)


def _pipe() -> tuple[int, int]:
    """Return both ends of a pipe, under numbers that are far from 3 and 4, which the browser speaks over."""
    ends = os.pipe()
    far = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return far[0], far[1]


@contextmanager
def browsing(profile: Path) -> Iterator[Callable[..., Page]]:
    """Run a browser; what is yielded opens pages: its arguments are a width and a height."""
    found = program()
    if found is None:
        raise FileNotFoundError(NONE)
    (to_read, to_write), (from_read, from_write) = _pipe(), _pipe()

    # a shell puts the ends where the browser looks for them: Python would have to fork beside its threads for that
    ends = ["bash", "-c", 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"', "bash", str(to_read), str(from_write)]
    process = subprocess.Popen(
        [*ends, found, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_read)
    os.close(from_write)
    pipe = Pipe(from_read, to_write)
    try:
        yield lambda width=1280, height=900, context=None: Page(pipe, width, height, context)
    finally:
        with contextlib.suppress(OSError, EOFError, RuntimeError, subprocess.TimeoutExpired):
            pipe.call("Browser.close")
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own children write into the profile
        process.wait()
        os.close(to_write)
        os.close(from_read)
