"""A judge that misbehaves: what it does stands in the path, so one server on one port serves every case."""

from __future__ import annotations

import functools
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_listening = socket.create_server(("127.0.0.1", 0), backlog=64)
PORT = _listening.getsockname()[1]
_full = socket.create_server(("127.0.0.1", 0), backlog=0)  # takes two connections and then no more
FULL_PORT = _full.getsockname()[1]

Behaviour = Callable[[socket.socket], None]


def reply(status: str, body: bytes = b"", *headers: str) -> Behaviour:
    """Send one whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return lambda connection: connection.sendall("\r\n".join(lines).encode("latin-1") + body)


def says(content: object) -> Behaviour:
    """Send a chat completion."""
    return reply("200 OK", json.dumps({"choices": [{"message": {"content": content}}]}).encode())


def raw(data: bytes) -> Behaviour:
    """Send bytes and close."""
    return lambda connection: connection.sendall(data)


def slowly(data: bytes, then: bytes) -> Behaviour:
    """Send `data`, then `then` for ever, five bytes a second."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(data)
        while True:
            for at in range(len(then)):
                connection.sendall(then[at : at + 1])
                time.sleep(0.2)

    return drip


def endless(data: bytes, then: bytes) -> Behaviour:
    """Send `data`, then `then` for ever, as fast as it is taken."""

    def pour(connection: socket.socket) -> None:
        connection.sendall(data)
        while True:
            connection.sendall(then)

    return pour


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
WORDS = b" " * 65536
BEHAVIOURS: dict[str, Behaviour] = {
    "drips its status line": slowly(b"", b"HTTP/1.1 "),
    "drips its headers": slowly(OK, b"X-A: b\r\n"),
    "drips its body": slowly(OK + b"Content-Length: 100000\r\n\r\n", b" "),
    "drips a body without length": slowly(OK + b"\r\n", b" "),
    "drips chunks": slowly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "sends headers for ever": endless(OK, b"X-A: b\r\n" * 1000),
    "sends one header for ever": endless(OK + b"X-A: ", WORDS),
    "sends a status line for ever": endless(b"HTTP/1.1 200 ", b"O" * 65536),
    "sends a body for ever": endless(OK + b"\r\n", WORDS),
    "sends chunks for ever": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + WORDS + b"\r\n"),
    "sends a terabyte": endless(OK + b"Content-Length: 1000000000000\r\n\r\n", WORDS),
    "says 100 Continue for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "says nothing": lambda connection: time.sleep(30),
    "closes at once": raw(b""),
    "is no HTTP server": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "has a negative length": raw(OK + b"Content-Length: -1\r\n\r\n{}"),
    "has a length of words": raw(OK + b"Content-Length: many\r\n\r\n{}"),
    "has chunks of words": raw(OK + b"Transfer-Encoding: chunked\r\n\r\nmany\r\n"),
    "has chunks of an exabyte": raw(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n  "),
    "ends in the middle": raw(OK + b"Content-Length: 100\r\n\r\n{"),
    "has a status of words": raw(b"HTTP/1.1 OK 200\r\n\r\n"),
    "has status 99999": raw(b"HTTP/1.1 99999 OK\r\n\r\n"),
    "has NUL in its headers": raw(OK + b"X-\0: \0\r\n\r\n"),
    "has a gzip bomb": reply("200 OK", gzip.compress(b" " * 2**26), "Content-Encoding: gzip"),
    "has an unknown encoding": reply("200 OK", b"{}", "Content-Encoding: rot13"),
    "has an unknown charset": reply("200 OK", b"{}", "Content-Type: application/json; charset=nonsense"),
    "is empty": reply("200 OK"),
    "is HTML": reply("200 OK", b"<html>"),
    "is null": reply("200 OK", b"null"),
    "is a list": reply("200 OK", b"[]"),
    "is a number": reply("200 OK", b"5"),
    "is text": reply("200 OK", b'"choices"'),
    "is NaN": reply("200 OK", b"NaN"),
    "is a number of 100,000 digits": reply("200 OK", b"9" * 100_000),
    "is 10,000 brackets": reply("200 OK", b"[" * 10_000),
    "nests 10,000 objects": reply("200 OK", b'{"choices":' * 10_000 + b"1" + b"}" * 10_000),
    "is no UTF-8": reply("200 OK", b'{"choices": [{"message": {"content": "\xff"}}]}'),
    "has choices of another type": reply("200 OK", b'{"choices": {"0": 1}}'),
    "has no choices": reply("200 OK", b'{"choices": []}'),
    "has a choice of null": reply("200 OK", b'{"choices": [null]}'),
    "has a message of text": reply("200 OK", b'{"choices": [{"message": "0.5"}]}'),
    "says null": says(None),
    "says a number": says(0.5),
    "says a list": says([{"type": "text", "text": "0.5"}]),
    "says an object": says({"score": 0.5}),
    "says true": says(True),
    "says nan": says("nan"),
    "says 1e999": says("1e999"),
    "says minus one": says("-1"),
    "says a number of 100,000 digits": says("9" * 100_000),
    "says a lone surrogate": reply("200 OK", b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
    "says a million words": says("no " * 1_000_000),
    "redirects to a file": reply("302 Found", b"", "Location: file:///etc/passwd"),
    "redirects elsewhere": reply("307 Temporary Redirect", b"", "Location: http://127.0.0.1:9/"),
    "redirects in a circle": reply("301 Moved", b"", "Location: /redirects%20in%20a%20circle/v1/chat/completions"),
    "redirects nowhere": reply("302 Found"),
    "has status 204": reply("204 No Content"),
    "has status 300": reply("300 Multiple Choices"),
    "has status 500": reply("500 Oops", b"x" * 1000),
    "has status 418": reply("418 Teapot"),
    "has status 999": reply("999 Unknown"),
}
for value in ("1e9", "1000000000", "-1", "nan", "inf", "9" * 5000, "Fri, 01 Jan 2199 00:00:00 GMT", "soon", "\xb2"):
    BEHAVIOURS[f"says Retry-After: {value[:30]}"] = reply("429 Busy", b"", f"Retry-After: {value}")


def url_of(name: str) -> str:
    """The judge.base_url of a behaviour."""
    return f"http://127.0.0.1:{PORT}/{list(BEHAVIOURS).index(name)}/v1"


@functools.cache
def serve() -> None:
    """Begin to answer, once; until the process ends."""
    for _ in range(2):
        waiting = socket.socket()
        waiting.setblocking(False)
        with suppress(BlockingIOError):
            waiting.connect(("127.0.0.1", FULL_PORT))
        _waiting.append(waiting)
    threading.Thread(target=_accept, daemon=True).start()


_waiting: list[socket.socket] = []


def _accept() -> None:
    while True:
        connection, _ = _listening.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.settimeout(20)
        asked = connection.recv(65536)
        while b"\r\n\r\n" not in asked:
            more = connection.recv(65536)
            if not more:
                return
            asked += more
        number = asked.split(b" ", 2)[1].split(b"/")[1]
        list(BEHAVIOURS.values())[int(number)](connection)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # or a reset would overtake the answer
            pass
