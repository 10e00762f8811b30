"""A stand-in for the hub: a folder per dataset, by the part of its HTTP interface that loading a dataset uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields the address and the paths of the files that were fetched so far, as "NAME/FILE"; root has NAME/FILE."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = "/".join(self.path.split("/")[3:5])
            paths = json.loads(given)["paths"] if given.startswith(b"{") else []
            self._json([_entry(root / name, root / name / path) for path in paths if (root / name / path).is_file()])

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "datasets"]:
                folder = root / "/".join(parts[2:4])
                if not folder.is_dir():
                    return self._missing("RepoNotFound")
                if "tree" in parts:
                    inside = folder / "/".join(parts[6:])
                    found = sorted(inside.rglob("*") if "recursive=true" in self.path.lower() else inside.glob("*"))
                    return self._json([_entry(folder, each) for each in found])
                files = [{"rfilename": str(each.relative_to(folder))} for each in folder.rglob("*") if each.is_file()]
                return self._json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": files, "tags": []})
            if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
                name, file = "/".join(parts[1:3]), "/".join(parts[5:])
                if not (root / name / file).is_file():
                    return self._missing("EntryNotFound")
                data = (root / name / file).read_bytes()
                if body:
                    fetched.append(f"{name}/{file}")
                return self._send(data if body else b"", 200, len(data), hashlib.sha1(data).hexdigest())
            self._missing("EntryNotFound")

        def _json(self, data: Any) -> None:
            self._send(json.dumps(data).encode(), 200)

        def _missing(self, code: str) -> None:
            self._send(b"", 404, code=code)

        def _send(self, data: bytes, status: int, length: int | None = None, etag: str = "", code: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            if etag:
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", COMMIT)
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()


def _entry(folder: Path, file: Path) -> dict[str, Any]:
    data = file.read_bytes() if file.is_file() else b""
    kind = {"type": "file", "size": len(data)} if file.is_file() else {"type": "directory"}
    return kind | {"path": str(file.relative_to(folder)), "oid": hashlib.sha1(data).hexdigest()}
