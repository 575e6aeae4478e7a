"""A real browser for tests: Chromium without a window, driven over a pipe.

`--remote-debugging-pipe` speaks the DevTools protocol, JSON messages that end with a zero byte, on
file descriptors 3 and 4: no driver, no port, no further dependency.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--no-first-run",
    "--disable-extensions",
    "--remote-debugging-pipe",
)
PATIENCE = 120.0  # seconds for one answer: a busy machine starts a browser slowly
# Descriptors 3 and 4 are the browser's ends of the two pipes, whatever they were before.
START = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
START += "os.execvp(sys.argv[3], sys.argv[3:])"


def executable() -> str | None:
    """The installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab of a running browser; a context manager.

    Attributes:
        complaints: what the console and the page's own errors said, since the last `open`.
    """

    def __init__(self, folder: Path) -> None:
        path = executable()
        assert path is not None
        (theirs_in, self._out), (self._in, theirs_out) = _pipe(), _pipe()
        command = [sys.executable, "-c", START, str(theirs_in), str(theirs_out), path, *FLAGS]
        self._log = (folder / "browser.log").open("wb")
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session: str | None = None
        self._number, self._waiting = 0, b""
        self.complaints: list[str] = []
        self._loaded = False

    def __enter__(self) -> Self:
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *exception: object) -> None:
        """Its whole process group ends: the browser has children of its own."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def open(self, page: Path, *, width: int = 1200, dark: bool = False, print_: bool = False):
        """Loads a file into a window so wide."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        media = "print" if print_ else "screen"
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.complaints, self._loaded = [], False
        self.ask("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._next()
        self.run("document.fonts.ready.then(() => true)")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page, a promise's once it is kept."""
        result = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key, down and up."""
        keys = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.ask("Input.dispatchKeyEvent", **down, **keys)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **keys)

    def screenshot(self, height: int | None = None) -> bytes:
        """The page as PNG: the whole of it, or so much of its top."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        tall = size["height"] if height is None else min(height, size["height"])
        clip = {"x": 0, "y": 0, "width": size["width"], "height": tall, "scale": 1}
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(found["data"])

    def _next(self) -> dict[str, Any]:
        """The next message; events are noted on the way."""
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._waiting:
            left = until - time.monotonic()
            ready = left > 0 and select.select([self._in], [], [], left)[0]
            data = os.read(self._in, 2**20) if ready else b""
            assert data, f"the browser does not answer; see {self._log.name}"
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, what: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(what["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(what["args"]))
        elif event == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.complaints.append(what["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            url = what["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.complaints.append(f"asks the network for {url}")


def _pipe() -> tuple[int, int]:
    """Reading and writing end, both above 9: out of the way of 3 and 4."""
    ends = []
    for low in os.pipe():
        ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(low)
    return ends[0], ends[1]
