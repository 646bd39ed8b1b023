# SPDX-License-Identifier: MIT
"""A hub on this machine that serves the files of a folder as the real one does, and breaks off where it is told to."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves ``folder/OWNER/NAME/...`` and keeps what was asked: paths, with the range of bytes where one was named.

    ``breaks`` are numbers of bytes after which the next answers break off; ``failing`` answers with an error instead;
    ``lies`` states wrong digests.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []
        self.breaks: list[int] = []
        self.failing = self.lies = False

    def downloads(self) -> list[str | None]:
        """Return the ranges of bytes of all downloads so far."""
        return [span for path, span in self.asked if "/resolve/" in path]


@contextmanager
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub, and let the hub's own library ask it, while the block runs."""
    import huggingface_hub

    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with monkeypatch.context() as patch:
            patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
            # No proxy between here and here.
            patch.setenv("NO_PROXY", "127.0.0.1")
            patch.setenv("no_proxy", "127.0.0.1")
            huggingface_hub.close_session()
            yield server
    finally:
        huggingface_hub.close_session()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        span = self.headers.get("Range")
        self.server.asked.append((path, span))
        if path.startswith("/api/models/"):
            self._tell(path.removeprefix("/api/models/"))
        else:
            repository, _, name = path.lstrip("/").partition(f"/resolve/{COMMIT}/")
            self._send(self.server.folder / repository / name, span)

    def _tell(self, repository: str) -> None:
        folder = self.server.folder / repository
        if not folder.is_dir():
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = file.read_bytes()
            digest = hashlib.sha256(content + b"!" * self.server.lies).hexdigest()
            lfs = {"sha256": digest, "size": len(content), "pointerSize": 134}
            name = file.relative_to(folder).as_posix()
            siblings.append({"rfilename": name, "size": len(content), "blobId": digest[:40], "lfs": lfs})
        self._answer(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def _send(self, file: Path, span: str | None) -> None:
        if self.server.failing:
            self._answer(500, b"out of order", {})
            return
        content = file.read_bytes()
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if span else {}
        self._answer(
            206 if span else 200, content[start:], headers, self.server.breaks.pop(0) if self.server.breaks else None
        )

    def _answer(self, status: int, content: bytes, headers: dict[str, str], most: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:most])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
