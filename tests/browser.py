"""Headless Chromium over its debugging pipe (file descriptors 3 and 4), with the standard library.

Enough of the DevTools protocol to open a page, press keys, run scripts and take pictures.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; `events` holds everything that the browser reported."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write, self.buffer, self.count = read, write, b"", 0
        self.events: list[dict[str, Any]] = []
        self.session = ""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for event in self._messages():
                if event.get("id") == self.count:
                    if "error" in event:
                        raise RuntimeError(f"{method}: {event['error']['message']}")
                    return event["result"]
                self.events.append(event)
        raise TimeoutError(f"Chromium did not answer {method}")

    def _messages(self) -> Iterator[dict[str, Any]]:
        if not select.select([self.read], [], [], 0.2)[0]:
            return
        self.buffer += os.read(self.read, 1 << 20)
        *whole, self.buffer = self.buffer.split(b"\0")
        yield from map(json.loads, whole)

    def open(self, path: Path) -> None:
        """Load a file and wait until it is ready."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path.resolve().as_uri())
        for _ in range(100):
            if self.run("document.readyState === 'complete' && location.protocol === 'file:'"):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{path} did not load")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release one key."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, **text)

    def scheme(self, name: str) -> None:
        """Ask for the "light" or the "dark" colour scheme."""
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path, width: int = 1100, full: bool = True) -> None:
        """A PNG of the page."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=False)
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def errors(self) -> list[str]:
        """Console errors and uncaught exceptions so far."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"]))
        return found

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        return [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A Chromium for a block; `profile` is an empty folder for its files."""
    found = executable()
    assert found, "no Chromium on PATH"
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()

    def connect() -> None:
        # copied away first: 3 and 4 may be the very descriptors that are to be moved
        first, second = os.dup(to_browser), os.dup(to_us)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
         "--disable-background-networking", "--hide-scrollbars", "about:blank"],
        preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Page(from_browser, from_us)
    finally:
        process.terminate()
        process.wait(timeout=20)
        for descriptor in (to_browser, from_us, from_browser, to_us):
            os.close(descriptor)
