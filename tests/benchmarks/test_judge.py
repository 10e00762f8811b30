"""The judge against a stand-in server: faults are retried, verdicts kept, the key stays secret."""

from __future__ import annotations

import json
import time

import pytest

from tests.benchmarks.judge_server import judge_server
from tests.robustness.hostile_judge import serve, url_of
from vlmprune.benchmarks.judging import Judge, describe_judge, judge_answers
from vlmprune.benchmarks.scoring.judge_protocols import MMVET_PROTOCOL
from vlmprune.errors import UserError

KEY = "sk-secret-123456"


def rows(count):
    row = {"extra": {"capability": "rec"}}
    return [
        row | {"id": f"q{n}", "question": f"What is {n}?", "answer": str(n), "prediction": f"It is {n}."}
        for n in range(count)
    ]


def judge(server, **settings):
    return Judge(server.url, "small-judge", **({"wait": 0.001, "timeout": 5.0} | settings))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("VLMPRUNE_JUDGE_KEY", KEY)


def test_every_row_gets_its_verdict(tmp_path):
    with judge_server(lambda _, body: "1.0" if "It is 3." in body["messages"][1]["content"] else "0.5") as server:
        judged = judge_answers([*rows(5), rows(4)[3] | {"id": "again"}], MMVET_PROTOCOL, judge(server), tmp_path)
    assert [row["score"] for row in judged] == [0.5, 0.5, 0.5, 1.0, 0.5, 1.0]
    assert judged[3]["extra"] == {"capability": "rec", "verdict": {"score": 1.0}}
    assert [row["id"] for row in judged] == [*(f"q{number}" for number in range(5)), "again"]
    assert server.requests[0]["model"] == "small-judge" and server.requests[0]["temperature"] == 0.0
    lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert {line["judge"] for line in lines} == {"small-judge"}
    assert len(lines) == len(server.requests) == 5  # equal answers to equal questions are asked once


FAULTS = [429, 500, 503, 408, None, b"<html>busy</html>", b'{"choices": []}', b'{"choices": [{"message": {}}]}']


@pytest.mark.parametrize("fault", [*FAULTS, "no idea", "", 1.0])
def test_faults_are_asked_again(tmp_path, fault):
    with judge_server(lambda number, _: fault if number < 2 else "0.7") as server:
        waiting = judge(server, timeout=0.2 if fault == 1.0 else 5.0)
        judged = judge_answers(rows(1), MMVET_PROTOCOL, waiting, tmp_path)
    assert judged[0]["score"] == 0.7 and len(server.requests) >= 3


def test_an_unreadable_reply_is_asked_again_at_a_higher_temperature(tmp_path):
    with judge_server(lambda number, _: ["?", "?", "?", "0.7"][number]) as server:
        judge_answers(rows(1), MMVET_PROTOCOL, judge(server), tmp_path)
    assert [request["temperature"] for request in server.requests] == [0.0, 0.5, 1.0, 1.0]


def test_temperature_can_be_left_out(tmp_path):
    with judge_server(lambda *_: "0.7") as server:
        judge_answers(rows(1), MMVET_PROTOCOL, judge(server, temperature=None), tmp_path)
    assert "temperature" not in server.requests[0]


def test_verdicts_are_kept_and_not_asked_again(tmp_path):
    """The second row fails for good; the others are kept, and the next call asks for that one alone."""

    def broken(_, body):
        return 500 if "It is 1." in body["messages"][1]["content"] else "0.5"

    with judge_server(broken) as server, pytest.raises(UserError, match=r"1 of 4 verdicts .* missing .*HTTP 500"):
        judge_answers(rows(4), MMVET_PROTOCOL, judge(server, retries=1), tmp_path)
    with judge_server(lambda *_: "0.9") as server:
        judged = judge_answers(rows(4), MMVET_PROTOCOL, judge(server), tmp_path)
        assert len(server.requests) == 1
        assert [row["score"] for row in judged] == [0.5, 0.9, 0.5, 0.5]
        judge_answers(rows(4), MMVET_PROTOCOL, judge(server), tmp_path)
        assert len(server.requests) == 1


def test_what_is_asked_and_what_is_missing_are_counted_alike(tmp_path, capsys):
    """Six answers, of which two pairs are equal: four verdicts, of which the judge gives none."""
    answers = [*rows(4), rows(4)[0] | {"id": "again"}, rows(4)[1] | {"id": "too"}]
    with judge_server(lambda *_: "?") as server, pytest.raises(UserError, match="4 of 4 verdicts"):
        judge_answers(answers, MMVET_PROTOCOL, judge(server, retries=0), tmp_path)
    assert "judges mmvet: 4 verdicts" in capsys.readouterr().err


def test_a_changed_answer_or_judge_is_asked_anew(tmp_path):
    with judge_server(lambda *_: "0.5") as server:
        judge_answers(rows(2), MMVET_PROTOCOL, judge(server), tmp_path)
        changed = [rows(2)[0] | {"prediction": "It is 7."}, rows(2)[1]]
        judge_answers(changed, MMVET_PROTOCOL, judge(server), tmp_path)
        assert len(server.requests) == 3
        judge_answers(rows(2), MMVET_PROTOCOL, Judge(server.url, "other-judge"), tmp_path)
        assert len(server.requests) == 5


def test_a_line_cut_short_by_a_crash_is_asked_again(tmp_path):
    with judge_server(lambda *_: "0.5") as server:
        judge_answers(rows(3), MMVET_PROTOCOL, judge(server, concurrency=1), tmp_path)
        file = tmp_path / "judge.jsonl"
        file.write_text(file.read_text()[:-20])
        judge_answers(rows(3), MMVET_PROTOCOL, judge(server), tmp_path)
        assert len(server.requests) == 4


def test_no_more_than_concurrency_at_once(tmp_path):
    with judge_server(lambda *_: 0.02) as server:
        judge_answers(rows(12), MMVET_PROTOCOL, judge(server, concurrency=3), tmp_path)
    assert 2 <= server.most_at_once <= 3 and len(server.requests) == 12


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_what_cannot_get_better_ends_at_once(tmp_path, status):
    with judge_server(lambda *_: status) as server, pytest.raises(UserError, match=f"HTTP {status}") as caught:
        judge_answers(rows(50), MMVET_PROTOCOL, judge(server, concurrency=2), tmp_path)
    assert len(server.requests) <= 2 and KEY not in str(caught.value)
    assert caught.value.__cause__ is None  # its text could repeat the key


def test_a_dead_judge_is_not_asked_for_every_row(tmp_path):
    with judge_server(lambda *_: 503) as server, pytest.raises(UserError, match="in a row"):
        judge_answers(rows(200), MMVET_PROTOCOL, judge(server, concurrency=2, retries=0), tmp_path)
    assert len(server.requests) < 20


def test_nobody_listening(tmp_path):
    with pytest.raises(UserError, match="refused"):
        judge_answers(rows(1), MMVET_PROTOCOL, Judge("http://127.0.0.1:9/v1", "m", retries=1, wait=0.001), tmp_path)


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(tmp_path, capfd, monkeypatch):
    with judge_server(lambda number, _: 500 if number == 0 else "0.5") as server:
        used = judge(server)
        judge_answers(rows(1), MMVET_PROTOCOL, used, tmp_path)
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        monkeypatch.delenv("VLMPRUNE_JUDGE_KEY")
        judge_answers(rows(2), MMVET_PROTOCOL, used, tmp_path)
        assert "Authorization" not in server.headers[-1]  # a server of one's own needs none
        monkeypatch.setenv("OPENAI_API_KEY", "other")
        judge_answers(rows(3), MMVET_PROTOCOL, used, tmp_path)
        assert server.headers[-1]["Authorization"] == "Bearer other"
    printed = "".join(capfd.readouterr())
    assert KEY not in printed + (tmp_path / "judge.jsonl").read_text() + repr(used) + str(
        describe_judge(used, MMVET_PROTOCOL)
    )


def test_a_key_that_is_none_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMPRUNE_JUDGE_KEY", "sk secret")
    with pytest.raises(UserError, match="VLMPRUNE_JUDGE_KEY holds a space") as caught:
        judge_answers(rows(1), MMVET_PROTOCOL, Judge("http://127.0.0.1:9/v1", "m"), tmp_path)
    assert "sk secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000/v1"}, "http://host"),
        ({"base_url": "https://me:hunter2@host/v1"}, "VLMPRUNE_JUDGE_KEY"),
        ({"base_url": "https://host/v1?key=hunter2"}, "VLMPRUNE_JUDGE_KEY"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        Judge(**({"base_url": "http://host/v1", "model": "m"} | settings))
    assert "hunter2" not in str(caught.value)


def test_stored_replies_are_read_by_todays_rule(tmp_path):
    """Replies that a mended rule refuses are asked again, others cost nothing."""
    with judge_server(lambda _, body: "0.5") as server:
        judge_answers(rows(2), MMVET_PROTOCOL, judge(server), tmp_path)
        lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
        lines[0] |= {"reply": "0,7", "verdict": {"score": 0.0}}  # as it was read once
        lines[1] |= {"reply": ".7", "verdict": {"score": 0.0}}
        (tmp_path / "judge.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        judged = judge_answers(rows(2), MMVET_PROTOCOL, judge(server), tmp_path)
    assert len(server.requests) == 3 and sorted(row["score"] for row in judged) == [0.5, 0.7]


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("drips its headers", "no whole reply within 0.2 s"),
        ("drips its body", "no whole reply within 0.2 s"),
        ("sends a body for ever", "more than 4,194,304 bytes"),
        ("says Retry-After: 1000000000", "HTTP 429, and it asks to wait 1000000000 s"),
        ("is 10,000 brackets", "unreadable reply"),
    ],
)
def test_what_would_never_end_has_an_end(tmp_path, behaviour, said):
    serve()
    endless = Judge(url_of(behaviour), "m", retries=0, timeout=10.0 if "ever" in behaviour else 0.2)
    with pytest.raises(UserError, match=said):
        judge_answers(rows(1), MMVET_PROTOCOL, endless, tmp_path)


def test_a_deadline_holds_for_all_attempts(tmp_path):
    begun = time.monotonic()
    with judge_server(lambda *_: 503) as server, pytest.raises(UserError, match="HTTP 503"):
        judge_answers(rows(1), MMVET_PROTOCOL, judge(server, retries=1000, wait=0.1, deadline=0.3), tmp_path)
    assert time.monotonic() - begun < 3 and len(server.requests) < 10
