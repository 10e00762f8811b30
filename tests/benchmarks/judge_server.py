"""A stand-in for an OpenAI-compatible endpoint, on a free port of this machine, with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JudgeServer(ThreadingHTTPServer):
    """behave: the number of the request (from 0) and its body -> what is done, one of

    a text (the judge's reply), an integer (that HTTP status), bytes (sent instead of a completion), a float (seconds of
    silence before the reply "0.5"), None (the connection is closed without an answer).
    """

    daemon_threads = True

    def __init__(self, behave: Callable[[int, dict[str, Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave = behave
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self.at_once = 0
        self.counting = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        """A client that hung up is part of the tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.counting:
            number = len(server.requests)
            server.requests.append(body)
            server.headers.append(dict(self.headers))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        action = server.behave(number, body)
        if isinstance(action, float):
            time.sleep(action)
            action = "0.5"
        with server.counting:  # before the answer: the client's next question may come at once
            server.at_once -= 1
        self._answer(action)

    def _answer(self, action: Any) -> None:
        assert self.path == "/v1/chat/completions"
        if action is None:
            self.close_connection = True
        elif isinstance(action, int):
            self._send(
                action, json.dumps({"error": {"message": f"key {self.headers['Authorization']} refused"}}).encode()
            )
        elif isinstance(action, bytes):
            self._send(200, action)
        else:
            self._send(200, json.dumps({"choices": [{"message": {"content": action}}]}).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", f"{self.server.url}/elsewhere")
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def judge_server(behave: Callable[[int, dict[str, Any]], Any]) -> Iterator[JudgeServer]:
    """Runs one while the block lasts."""
    server = JudgeServer(behave)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
