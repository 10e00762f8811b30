"""One question to an OpenAI-compatible endpoint, asked again where it did not work out. Standard library only."""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from vlmprune.benchmarks.scoring.protocol import Messages, Protocol
from vlmprune.errors import UserError
from vlmprune.schema import check_type, construct

KEYS = ("VLMPRUNE_JUDGE_KEY", "OPENAI_API_KEY")  # environment variables, the first one that is set
TEMPORARY = {408, 409, 425, 429}  # and every 5xx
LONGEST_WAIT = 60.0  # seconds


class NoVerdict(Exception):
    """The judge gave none, however often it was asked. The message says what it gave last."""


class Unreadable(Exception):
    """A reply that is not JSON, not a chat completion, or holds no verdict."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a judge is asked. concurrency: questions at a time. retries: further attempts for one question. timeout: of
    one attempt, in seconds. wait: before the first retry, in seconds, doubled for each further one. temperature: null
    leaves it out, for models that do not take one.
    """

    concurrency: int = 8
    retries: int = 6
    timeout: float = 60.0
    wait: float = 1.0
    temperature: float | None = 0.0

    def __post_init__(self) -> None:
        for name, lowest in (("concurrency", 1), ("retries", 0), ("timeout", 0.001), ("wait", 0), ("temperature", 0)):
            value = getattr(self, name)
            if value is not None and not lowest <= value < math.inf:  # also false for nan
                raise ValueError(f"{name}={value}; allowed: {lowest} or more")


@dataclass(frozen=True)
class Judge(Manner):
    """Which endpoint, and how it is asked. The key is read from the environment and stands nowhere else.

    base_url: up to and with /v1. model: its name there.
    """

    base_url: str
    model: str

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url: expected http://host/v1 or https://host/v1")
        if parts.username or parts.password or parts.query:
            # Not shown: what stands there is likely to be a secret.
            raise ValueError(f"base_url holds a user, password or query; set {KEYS[0]} in the environment instead")

    def ask(self, messages: Messages, protocol: Protocol, stop: threading.Event) -> tuple[str, dict[str, float]]:
        """The judge's reply and the verdict in it. `stop` ends the waiting.

        Raises NoVerdict where every attempt failed, UserError where asking again cannot help (401, 404, ...).
        """
        problem = ""
        unread = 0
        for attempt in range(self.retries + 1):
            if stop.is_set():
                break
            asked_to_wait = 0.0
            try:
                return self._verdict(messages, protocol, unread)
            except urllib.error.HTTPError as error:
                problem, asked_to_wait = f"HTTP {error.code}", _retry_after(error.headers)
                if error.code not in TEMPORARY and error.code < 500:
                    raise UserError(self._refusal(error.code)) from None  # its text may repeat the key
            except (OSError, http.client.HTTPException) as error:  # no connection, a broken one, a slow judge
                problem = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
            except Unreadable as error:
                problem, unread = f"unreadable reply ({error})", unread + 1
            if attempt < self.retries:
                stop.wait(max(asked_to_wait, self._backoff(attempt)))
        raise NoVerdict(problem or "stopped")

    def _verdict(self, messages: Messages, protocol: Protocol, unread: int) -> tuple[str, dict[str, float]]:
        body = self._post(messages, unread)
        try:
            reply = json.loads(body)["choices"][0]["message"]["content"]
            return reply, protocol.parse(reply)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise Unreadable("not a chat completion") from error
        except ValueError as error:
            raise Unreadable(str(error)) from error

    def _post(self, messages: Messages, unread: int) -> bytes:
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        if self.temperature is not None:
            # The same question at temperature 0 gives the same unreadable reply (as MM-Vet's own script raises it).
            body["temperature"] = min(1.0, self.temperature + 0.5 * unread)
        request = urllib.request.Request(
            self.base_url.rstrip("/") + "/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **_authorization()},
        )
        with _OPENER.open(request, timeout=self.timeout) as response:
            return response.read()

    def _refusal(self, code: int) -> str:
        hint = {
            401: f"is {' or '.join(KEYS)} set, and right?",
            403: f"is {' or '.join(KEYS)} set, and right?",
            404: f"is judge.base_url right (up to /v1), and is there a judge.model={self.model}?",
        }.get(code, f"does the endpoint take judge.model={self.model} and temperature={self.temperature}?")
        return f"the judge at {self.base_url} answered HTTP {code}: {hint}"

    def _backoff(self, attempt: int) -> float:
        """Doubling, with a random part so that parallel questions do not come back together."""
        return min(LONGEST_WAIT, self.wait * 2**attempt) * random.uniform(0.5, 1.0)


def check_judge(settings: dict[str, Any]) -> None:
    """Raise a UserError where one of the judge.* settings cannot work, also while no endpoint is given."""
    endpoint = {name: settings[name] for name in ("base_url", "model")}
    for name, value in endpoint.items():
        check_type(f"judge.{name}", value, str | None)
    construct(Manner, {name: value for name, value in settings.items() if name not in endpoint}, "judge.")


def _authorization() -> dict[str, str]:
    """The key as a header; none where none is set, as for a server of one's own. Raises UserError, without the key."""
    for name in KEYS:
        key = os.environ.get(name, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise UserError(f"{name} holds a space or a character that no key has")
        if key:
            return {"Authorization": f"Bearer {key}"}
    return {}


def _retry_after(headers: Message) -> float:
    """Seconds that the server asks to wait, at most LONGEST_WAIT; 0 where it does not, or gives a date."""
    value = headers.get("Retry-After", "")
    return min(LONGEST_WAIT, float(value)) if value.isdecimal() else 0.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
