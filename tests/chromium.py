# SPDX-License-Identifier: MIT
"""Headless Chromium, spoken to through two pipes: pages at any size, what they ask for, what they measure, and keys."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"]
# Chromium's own look-ups must not be mistaken for the page's, and nothing may leave this machine.
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
CONTROL, SHIFT = 2, 8
"""The numbers of keys that are held down while another is pressed."""
PATIENCE = 120
"""Seconds after which a browser that hangs is ended, and the test with it."""


class Browser:
    """One tab; every message is JSON, ended by a zero byte."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self.reading, self.writing, self.count, self.session = reading, writing, 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the answer to one command; what happens meanwhile is kept in ``events``."""
        self.count += 1
        message: dict[str, object] = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.writing.write(json.dumps(message).encode() + b"\0")
        self.writing.flush()
        while (answer := self._next()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, file: Path, width: int, height: int, *, dark: bool = False) -> list[str]:
        """Show a file in a window of that size and return the addresses that it asked for, data apart."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.visit(file.as_uri())
        asked = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in asked]
        return [address for address in addresses if not address.startswith("data:")]

    def visit(self, address: str) -> None:
        """Open an address and return when everything of it has been loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def wait(self, expression: str) -> None:
        """Return as soon as a JavaScript expression counts as true."""
        while not self.measure(f"!!({expression})"):
            time.sleep(0.1)

    def press(self, key: str, code: int, held: int = 0) -> None:
        """Press a key, by its name and the number that Windows gives it, while others are held down."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=held)

    def write(self, text: str) -> None:
        """Put text where the cursor is, as an input method does."""
        self.ask("Input.insertText", text=text)

    def measure(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _next(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self.reading.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            content += byte
        message: dict[str, Any] = json.loads(content)
        return message


@contextmanager
def started(folder: Path, patience: float = PATIENCE) -> Iterator[Browser]:
    """Yield a browser whose profile lies in ``folder``; it ends with the block, or after ``patience`` seconds."""
    assert COMMAND
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    # Chromium reads commands from descriptor 3 and answers on 4.
    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} 2>{folder}/log'
    command = ["bash", "-c", shell, "chromium", COMMAND, *FLAGS, *sandbox, f"--user-data-dir={folder}/profile"]
    surroundings: Mapping[str, str] = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), env=surroundings) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        watchdog = threading.Timer(patience, process.kill)
        watchdog.start()
        try:
            with os.fdopen(ours_in, "rb") as reading, os.fdopen(ours_out, "wb") as writing:
                yield Browser(reading, writing)
        finally:
            watchdog.cancel()
            process.kill()
