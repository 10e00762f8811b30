"""An HTTP server in place of W&B's: it takes runs and views, or fails, or never answers."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Mode = Literal["works", "fails", "hangs"]


@dataclass
class StandIn:
    """All that the server was sent. graphql: name of each operation and its variables; files: uploaded, by name."""

    url: str
    graphql: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    stream: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)  # Authorization headers

    def sent(self, operation: str) -> list[dict[str, Any]]:
        """Variables of all calls of one GraphQL operation."""
        return [variables for name, variables in self.graphql if name == operation]

    def summary(self) -> dict[str, Any]:
        """The run's summary as the server has it in the end."""
        found: dict[str, Any] = {}
        for each in self.stream:
            for line in each.get("files", {}).get("wandb-summary.json", {}).get("content", []):
                found |= json.loads(line)
        return found


class Server(ThreadingHTTPServer):
    """Clients may hang up as they like."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Nothing on the tests' output."""


@contextmanager
def stand_in(mode: Mode = "works") -> Iterator[StandIn]:
    """A server on a free port of this machine, gone afterwards."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.paths.append(self.path)
            seen.secrets.append(self.headers.get("Authorization") or "")
            if mode == "hangs":
                stop.wait()
                self.close_connection = True
                return
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = {"error": "out of order"} if mode == "fails" else respond(seen, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(500 if mode == "fails" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = handle_any

        def log_message(self, *_: Any) -> None:
            """Nothing on the tests' output."""

    server = Server(("127.0.0.1", 0), Handler)
    seen = StandIn(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield seen
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def respond(seen: StandIn, path: str, body: bytes) -> dict[str, Any]:
    """W&B's answer, as far as its client looks at it."""
    if path.startswith("/storage/"):
        seen.files[path.removeprefix("/storage/")] = body
        return {}
    if path.endswith("/file_stream"):
        seen.stream.append(json.loads(body))
        return {}
    if path != "/graphql":
        return {}
    asked = json.loads(body)
    variables = asked.get("variables") or {}
    operation = next((name for name in ANSWERS if name in asked["query"]), "")
    seen.graphql.append((operation or asked["query"].split()[1], variables))
    return {"data": ANSWERS[operation](seen, variables) if operation else {}}


PROJECT = {"id": "p", "name": "vlmprune", "entity": {"id": "e", "name": "team"}}
ANSWERS = {
    "RunResumeStatus": lambda _, given: {"model": {**PROJECT, "bucket": None}},
    "UpsertBucket": lambda _, given: {
        "upsertBucket": {
            "bucket": {
                "id": "b",
                "name": given.get("name"),
                "displayName": given.get("displayName"),
                "description": "",
                "config": given.get("config"),
                "sweepName": None,
                "project": PROJECT,
                "historyLineCount": 0,
            },
            "inserted": True,
        }
    },
    "CreateRunFiles": lambda seen, given: {
        "createRunFiles": {
            "runID": "b",
            "uploadHeaders": [],
            "files": [{"name": name, "uploadUrl": f"{seen.url}/storage/{name}"} for name in given["files"]],
        }
    },
    "CreateArtifact": lambda *_: {  # as if the server had it already
        "createArtifact": {
            "artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
        }
    },
    "upsertView": lambda _, given: {
        "upsertView": {"view": {**given, "id": "v", "type": "runs", "project": PROJECT}, "inserted": True}
    },
    "GetProjects": lambda *_: {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}},
    "Viewer": lambda *_: {
        "viewer": {"id": "u", "username": "me", "entity": "team", "flags": "{}", "teams": {"edges": []}}
    },
    "ServerInfo": lambda *_: {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}},
}
