"""A headless Chromium, driven by its own protocol over two pipes: no port, no driver, no package.

https://chromedevtools.github.io/devtools-protocol/: JSON messages, each ended by a zero byte, on the file descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WAIT_S = 60.0
_ABOVE_THE_PIPES = 10
_READY = "document.body && document.body.dataset.ready === 'true'"


def find_chromium() -> str | None:
    """Return the path of a Chromium of this machine, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One Chromium with one tab.

    Attributes:
        events: What the tab has reported since its page was opened.
        window: Width and height of a tab that is opened, pixels.
    """

    def __init__(self, chromium: str, folder: Path) -> None:
        to_read, from_browser = (_lifted(fd) for fd in os.pipe())
        to_browser, to_write = (_lifted(fd) for fd in os.pipe())
        self._in, self._out = to_read, to_write
        self._held = b""
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--lang=en-US",
            "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank",
        ]  # fmt: skip
        self._pid = os.posix_spawn(
            chromium,
            [chromium, *flags],
            {**os.environ, "HOME": str(folder), "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, to_browser, 3),
                (os.POSIX_SPAWN_DUP2, from_browser, 4),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
        )
        for fd in (to_browser, from_browser):
            os.close(fd)
        self._session: str | None = None
        self._context: str | None = None
        self._target: str | None = None
        self.window = (1280, 900)

    def forget(self) -> None:
        """Close the tab and drop what its pages have kept."""
        self._session = None
        if self._context:
            self.send("Target.disposeBrowserContext", browserContextId=self._context)
        self._context = self.send("Target.createBrowserContext")["browserContextId"]
        self._target = None

    def downloads_to(self, folder: Path) -> None:
        """Let pages write what they download into `folder`."""
        self.send(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(folder),
            browserContextId=self._context,
        )

    def close(self) -> None:
        """End the browser and its processes."""
        os.close(self._out)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._in)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a command; events that come meanwhile are kept."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline_s = time.monotonic() + WAIT_S
        while True:
            received = self._receive(deadline_s)
            if received.get("id") == number:
                if "error" in received:
                    raise RuntimeError(f"{method}: {received['error']}")
                result: dict[str, Any] = received["result"]
                return result
            self.events.append(received)

    def _receive(self, deadline_s: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._in], [], [], left_s)[0]:
                raise TimeoutError("The browser does not answer")
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise RuntimeError("The browser has ended")
            self._held += chunk
        message, _, self._held = self._held.partition(b"\0")
        received: dict[str, Any] = json.loads(message)
        return received

    # --- what the tests ask ---------------------------------------------------------------------------------------

    def open(self, address: str, *, before: str = "", ready: str = _READY) -> None:
        """Open a page in a new tab, the only one, and wait until the expression `ready` is true there.

        The script `before` runs before the page's own.
        """
        self._session = None
        if self._target:
            self.send("Target.closeTarget", targetId=self._target)
        self.events.clear()
        made = self.send("Target.createTarget", url="about:blank", browserContextId=self._context)
        self._target = made["targetId"]
        attached = self.send("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.resize(*self.window)
        self.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.send("Page.navigate", url=address)
        self.until(f"location.href !== 'about:blank' && ({ready})")

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until the JavaScript `expression` is true."""
        self.wait(lambda: self.run(f"Boolean({expression})"), expression)

    def wait(self, ready: Callable[[], Any], what: str) -> Any:
        """Return what `ready` returns once it is true."""
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            if found := ready():
                return found
            time.sleep(0.02)
        raise TimeoutError(f"Never came true: {what}")

    def key(self, key: str) -> None:
        """Press and release one key."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def text(self, selector: str) -> str:
        """Return the text that a person sees in the first element of `selector`."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def requests(self) -> list[str]:
        """Return the addresses of everything that the page has asked for since it was opened."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Return the errors and exceptions that the page has caused, broken rules of its policy among them."""
        entries = [event["params"]["entry"] for event in self.events if event["method"] == "Log.entryAdded"]
        thrown = [event["params"] for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        return [entry["text"] for entry in entries if entry["level"] == "error"] + [
            str(one) for one in thrown
        ]

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the tab that size, pixels, and make it light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """Return what the window shows as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """Return the page as its print to PDF."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])


def _lifted(fd: int) -> int:
    """Return the pipe's end under a number that the browser's own two do not need."""
    lifted = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THE_PIPES)
    os.close(fd)
    return lifted
