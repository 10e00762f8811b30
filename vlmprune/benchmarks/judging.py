"""Judging of answers by a language model, in parallel; every verdict is saved in the run directory as it arrives."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.benchmarks.judge_client import Judge, NoVerdict
from vlmprune.benchmarks.scoring.protocol import Protocol, Row
from vlmprune.errors import UserError
from vlmprune.files import append_lines
from vlmprune.progress import progress_bar
from vlmprune.typed_json import STRICT, read_lines

FILE = "judge.jsonl"


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
    known = _read_replies(directory / FILE, protocol)
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
            append_lines(directory / FILE, [line | {"version": protocol.version, "reply": reply, "verdict": verdict}])
            known[key] = verdict
            advance(1)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(asked)} verdicts of {judge.model} are missing (the last: {missing[-1]}): "
            "the others are kept, run the same command again for the rest"
        )
    return [_judged(row, known[key]) for key, row in zip(keys, rows, strict=True)]


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


def _judged(row: Row, verdict: dict[str, float]) -> Row:
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
