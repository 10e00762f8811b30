"""Judging of answers by a language model: parallel requests, retries by a deadline, verdicts kept as they come."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import ssl
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired
from urllib.parse import urlsplit

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vlmprune.benchmarks.base import Messages, Protocol, Row
from vlmprune.config.settings import JudgeSettings
from vlmprune.errors import UserError, error_text
from vlmprune.files import append_lines
from vlmprune.terminal import progress_bar
from vlmprune.typed_json import STRICT, parse_json, read_lines

if TYPE_CHECKING:
    import httpx


KEYS = ("VLMPRUNE_JUDGE_KEY", "OPENAI_API_KEY")  # environment variables; the first one that is set counts
TEMPORARY = {408, 409, 425, 429}  # and every 5xx
LONGEST_WAIT = 60.0  # seconds; a question whose judge asks for a longer wait gets no verdict
LARGEST = 2**22  # bytes of a reply


@with_config(STRICT)
class Message(TypedDict):
    """Message of a chat completion: the text of the judge's reply."""

    content: str


@with_config(STRICT)
class Choice(TypedDict):
    """One reply of a chat completion."""

    message: Message


@with_config(STRICT)
class Completion(TypedDict):
    """Chat completion; fields beside these are ignored."""

    choices: Annotated[list[Choice], Field(min_length=1)]


class NoVerdict(Exception):
    """Raised if no attempt gave a verdict. The message says what the last one gave."""


class UnreadableReply(Exception):
    """Raised for a reply that is not JSON, not a chat completion, or holds no verdict."""


@dataclass(frozen=True)
class Judge(JudgeSettings):
    """Endpoint of a judge and the settings of its requests. The API key is read from the environment, not stored."""

    base_url: Annotated[str, "the endpoint, up to and including /v1"]
    model: Annotated[str, "the judge's name there"]

    def __post_init__(self) -> None:
        super().__post_init__()
        import httpx

        try:
            parts = urlsplit(self.base_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.fragment:
                raise ValueError("expected http://host/v1 or https://host/v1")
            if parts.username or parts.password or parts.query:
                # The address is not shown, because it is likely to hold a secret.
                raise ValueError(f"holds a user, password or query; set {KEYS[0]} in the environment instead")
            if re.search(r"[^!-~]", self.base_url):  # urlsplit drops line ends, and httpx escapes blanks
                raise ValueError("expected http://host/v1, without blanks and in ASCII (xn--... for other hosts)")
            _ = httpx.URL(self.base_url).host  # httpx decodes, and so checks, the host on access
        except (ValueError, httpx.InvalidURL) as error:
            raise ValueError(f"base_url: {error_text(error)}") from error

    def ask(self, messages: Messages, protocol: Protocol, stop: threading.Event) -> tuple[str, dict[str, float]]:
        """Return the judge's reply and the verdict in it. `stop` ends the waiting.

        Raises NoVerdict if every attempt failed, UserError if another attempt cannot help (401, 404, ...).
        """
        problem = "stopped"
        unread = 0
        end = time.monotonic() + self.deadline
        for attempt in range(self.retries + 1):
            left = end - time.monotonic()
            if stop.is_set() or left <= 0:
                break
            asked_to_wait = 0.0
            try:
                status, headers, body = self._post(messages, unread, min(self.timeout, left))
                if status == 200:
                    return _verdict(body, protocol)
                problem, asked_to_wait = f"HTTP {status}", _retry_after(headers.get("Retry-After", ""))
                if status not in TEMPORARY and status < 500:
                    raise UserError(self._refusal(status))
            except OSError as error:  # no connection, a broken one, a slow judge
                problem = error_text(error)
            except UnreadableReply as error:
                problem, unread = f"unreadable reply ({error})", unread + 1
            if asked_to_wait > LONGEST_WAIT:
                raise NoVerdict(f"{problem}, and it asks to wait {asked_to_wait:.0f} s")
            if attempt < self.retries:
                stop.wait(min(max(asked_to_wait, self._backoff(attempt)), max(0.0, end - time.monotonic())))
        raise NoVerdict(problem)

    def _post(self, messages: Messages, unread: int, seconds: float) -> tuple[int, httpx.Headers, bytes]:
        """Return status, headers and body of the response. Raises OSError, also if it takes longer than `seconds`."""
        import httpx

        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if self.temperature is not None:
            # At temperature 0 the same question repeats an unreadable reply; so it rises, as in MM-Vet's script.
            body["temperature"] = min(1.0, self.temperature + 0.5 * unread)
        # Without compression, so that no small reply can unpack to gigabytes.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **_authorization()}
        try:
            return asyncio.run(self._exchange(json.dumps(body).encode(), headers, seconds))
        except TimeoutError as error:
            raise OSError(f"no whole reply within {seconds:.3g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OverflowError, ExceptionGroup) as error:
            raise OSError(f"{type(error).__name__}: {_root_cause(error)}") from error

    async def _exchange(self, body: bytes, headers: dict[str, str], seconds: float) -> tuple[int, httpx.Headers, bytes]:
        import httpx

        try:
            # Redirects are not followed: they would carry the key to another host. asyncio.timeout limits the exchange.
            client = httpx.AsyncClient(timeout=None, verify=_tls())
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
            raise UserError(
                "judge: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE in the environment cannot be used "
                f"({error_text(error)}): correct or unset it"
            ) from error
        url, content = self.base_url.rstrip("/") + "/chat/completions", b""
        async with (
            asyncio.timeout(seconds),
            client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            async for part in response.aiter_raw():
                content += part
                if len(content) > LARGEST:
                    raise UnreadableReply(f"more than {LARGEST:,} bytes")
            return response.status_code, response.headers, content

    def _refusal(self, code: int) -> str:
        hint = {
            401: f"is {' or '.join(KEYS)} set, and right?",
            403: f"is {' or '.join(KEYS)} set, and right?",
            404: f"is judge.base_url right (up to /v1), and is there a judge.model={self.model}?",
        }.get(code, f"does the endpoint take judge.model={self.model} and temperature={self.temperature}?")
        return f"the judge at {self.base_url} answered HTTP {code}: {hint}"

    def _backoff(self, attempt: int) -> float:
        """Return the seconds before the next attempt: doubling, with a random part to spread parallel questions."""
        return min(LONGEST_WAIT, self.wait * 2**attempt) * random.uniform(0.5, 1.0)


def _authorization() -> dict[str, str]:
    """Return the API key as a header; {} if none is set, as for a local server. Raises UserError, without the key."""
    for name in KEYS:
        key = os.environ.get(name, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise UserError(f"{name} holds a space or a character that no key has")
        if key:
            return {"Authorization": f"Bearer {key}"}
    return {}


def _verdict(body: bytes, protocol: Protocol) -> tuple[str, dict[str, float]]:
    """Return the judge's reply and the verdict in it. Raises Unreadable."""
    try:
        reply = parse_json(body, Completion)["choices"][0]["message"]["content"]
        return reply, protocol.parse(reply)
    except ValueError as error:
        raise UnreadableReply(error_text(error)) from error


def _retry_after(value: str) -> float:
    """Return the seconds that the server asks to wait, from a number or a date; 0 if it gives neither."""
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0


def _root_cause(error: BaseException) -> str:
    """Return the text of a failed connection's first cause, such as 'Connection refused'."""
    while True:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    number = error.errno if isinstance(error, OSError) else None  # negative for an unknown host
    return os.strerror(number) if number is not None and number > 0 else error_text(error)


def _tls() -> ssl.SSLContext:
    """Return a context with the machine's certificates, one of which an organisation's own endpoint may need."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or None)


REPLIES_FILE = "judge.jsonl"


@with_config(STRICT)
class Reply(TypedDict):
    """Line of judge.jsonl. key: `verdict_key`; the verdict is parsed from `reply` at each use."""

    key: str
    id: NotRequired[str]
    judge: NotRequired[str]
    protocol: NotRequired[str]
    reply: str


def judge_answers(rows: list[Row], protocol: Protocol, judge: Judge, directory: Path) -> list[Row]:
    """Return the rows with score and extra["verdict"]. Replies in the directory's judge.jsonl are used again, except
    those that the current `parse` refuses.

    Raises UserError if the judge cannot be used, or if verdicts are missing after all others are saved: the same call
    then asks for the missing ones alone.
    """
    known = _read_replies(directory / REPLIES_FILE, protocol)
    keys = [verdict_key(row, protocol, judge.model) for row in rows]
    asked = dict(zip(keys, rows, strict=True))  # equal answers to equal questions share a verdict
    open_rows = {key: row for key, row in asked.items() if key not in known}
    title = f"{judge.model} judges {protocol.name}"
    missing: list[str] = []
    with progress_bar(title, len(asked), len(asked) - len(open_rows), unit="verdicts") as advance:
        for key, outcome in _ask_all(open_rows, protocol, judge):
            if isinstance(outcome, NoVerdict):
                missing.append(str(outcome))
                continue
            reply, verdict = outcome
            line = {"key": key, "id": open_rows[key]["id"], "judge": judge.model, "protocol": protocol.name}
            append_lines(
                directory / REPLIES_FILE, [line | {"version": protocol.version, "reply": reply, "verdict": verdict}]
            )
            known[key] = verdict
            advance(1)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(asked)} verdicts of {judge.model} are missing (the last: {missing[-1]}): "
            "the others are kept, run the same command again for the rest"
        )
    return [_with_verdict(row, known[key]) for key, row in zip(keys, rows, strict=True)]


def _read_replies(file: Path, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Return key -> verdict, parsed from the saved replies, so that a corrected rule applies to old replies too."""
    known = {}
    for line in read_lines(file, Reply, "reply of a judge"):
        try:
            known[line["key"]] = protocol.parse(line["reply"])
        except ValueError:
            continue
    return known


def verdict_key(row: Row, protocol: Protocol, model: str) -> str:
    """Return a hash of everything that a verdict depends on: judge, protocol, its version, and the messages."""
    identity = [model, protocol.name, protocol.version, protocol.messages(row)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def describe_judge(judge: Judge, protocol: Protocol) -> dict[str, str]:
    """Return model, endpoint and protocol for result.json, without an API key: a `Judge` holds none."""
    return {"model": judge.model, "base_url": judge.base_url, "protocol": f"{protocol.name}/{protocol.version}"}


def _with_verdict(row: Row, verdict: dict[str, float]) -> Row:
    return row | {"score": verdict["score"], "extra": row["extra"] | {"verdict": verdict}}


def _ask_all(open_rows: dict[str, Row], protocol: Protocol, judge: Judge) -> Any:
    """Yield (key, (reply, verdict) or NoVerdict) as they arrive. Raises UserError early if the judge seems down."""
    stop = threading.Event()
    refusals: list[UserError] = []
    failures = 0

    def ask(row: Row) -> tuple[str, dict[str, float]]:
        try:
            return judge.ask(protocol.messages(row), protocol, stop)
        except UserError as error:
            refusals.append(error)
            stop.set()  # now, so that the other threads ask no more questions
            raise

    with ThreadPoolExecutor(judge.concurrency) as pool:
        futures: dict[Future, str] = {pool.submit(ask, row): key for key, row in open_rows.items()}
        try:
            for future in as_completed(futures):
                try:
                    outcome: Any = future.result()
                    failures = 0
                except UserError:
                    continue  # raised below, after verdicts under way are saved
                except NoVerdict as error:
                    outcome = error
                    failures += not stop.is_set()
                yield futures[future], outcome
                if failures >= max(3, judge.concurrency) and not stop.is_set():
                    stop.set()
                    message = (
                        f"the judge at {judge.base_url} failed {failures} questions in a row (the last: {outcome})"
                    )
                    refusals.append(UserError(f"{message}: verdicts so far are kept, run the same command again later"))
            if refusals:
                raise refusals[0]
        finally:  # also if the caller is interrupted: questions that were not asked yet are dropped
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
