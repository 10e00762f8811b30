"""Refusal of settings that hold a key or an access token, which would be recorded; they belong in the environment.

config.yaml, W&B and messages contain settings unchanged. None may hold, typed or through ${oc.env:...}, the value of an
environment variable with a name such as HF_TOKEN or VLMPRUNE_JUDGE_KEY, or an address with a user, password or query.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from vlmprune.errors import UserError

VARIABLE = re.compile(r"(?i)((KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?|_PAT|_PASS)$")
SHORTEST = 8  # characters; a shorter value may occur in a setting by chance
SCHEME = re.compile(r"[a-zA-Z][\w+.-]*$")


def check_secrets(settings: Any) -> None:
    """Raise UserError, without repeating the value, if a value in nested `settings` holds a secret."""
    for name, text in _texts(settings, ""):
        for variable, secret in _secrets().items():
            if secret in text:
                raise UserError(f"{name} holds the value of {variable}, and settings are recorded: leave it out")
        if _holds_login(text):
            raise UserError(
                f"{name} holds a user, password or query in an address, and settings are recorded: leave it out; keys "
                "come from the environment, such as HF_TOKEN and VLMPRUNE_JUDGE_KEY"
            )


def without_secrets(text: str) -> str:
    """Return the text with secrets replaced by ***, since the reason or traceback of a failure may contain one."""
    for secret in _secrets().values():
        text = text.replace(secret, "***")
    return text


def _holds_login(text: str) -> bool:
    """Return True if an address in `text` has a user before @ or a query after ?, in time linear in its length."""
    for word in text.split():
        query = word.rfind("?")
        for mark in re.finditer("://", word):
            host = word[mark.end() : (word.find("/", mark.end()) + 1 or len(word) + 1) - 1]
            if SCHEME.search(word[max(0, mark.start() - 40) : mark.start()]) and ("@" in host or query >= mark.end()):
                return True
    return False


def _secrets() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if VARIABLE.search(name) and len(value) >= SHORTEST}


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, text) for every text in nested plain data, keys included."""
    if isinstance(value, dict):
        yield from (("a name", key) for key in value if isinstance(key, str))
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name or "an argument", value
