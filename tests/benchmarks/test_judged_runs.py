"""A judged benchmark from run to score: with a judge at once, without one first and judged later."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.runs import run
from vlmprune.cli import main
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.results.runs import read_run

QUICK = ("method=none", "latency_samples=0", "logger=none", "limit=4", "benchmark.max_new_tokens=2")


class Grader(BaseHTTPRequestHandler):
    """Grades everything 0.5."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "0.5"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def judge():
    server = HTTPServer(("127.0.0.1", 0), Grader)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"judge.base_url=http://127.0.0.1:{server.server_port}/v1", "judge.model=half"]
    server.shutdown()
    server.server_close()


def settings(overrides, tmp_path):
    return [*overrides("mmvet"), *QUICK, f"outputs={tmp_path}"]


def rows(directory):
    return [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]


def test_with_a_judge_the_run_has_a_score(overrides, tmp_path, judge):
    result = run(compose_run([*settings(overrides, tmp_path), *judge]))
    assert result["answers"]["score"] == 0.5 and result["answers"]["interval95"] == [0.5, 0.5]
    assert result["judge"]["model"] == "half"
    (directory,) = (file.parent for file in tmp_path.rglob("result.json"))
    assert json.loads((directory / "result.json").read_text()) == result
    judged = rows(directory)
    assert [row["extra"]["verdict"] for row in judged] == [{"score": 0.5}] * 4
    assert main(["score", str(directory)]) == 0  # from the files alone: what the run left is what scoring gives
    again = json.loads((directory / "result.json").read_text())
    assert again | {"rescored": result["rescored"]} == result
    assert rows(directory) == judged


def test_without_one_it_ends_with_answers_and_is_judged_later(overrides, tmp_path, judge, capsys):
    result = run(compose_run(settings(overrides, tmp_path)))
    assert result["answers"]["score"] is None
    assert list(tmp_path.rglob("mmvet_submission.json"))
    (directory,) = [file.parent for file in tmp_path.rglob("result.json")]
    assert read_run(directory).score is None
    for style in ("table", "markdown", "csv", "json"):
        assert main(["compare", f"outputs={tmp_path}", f"format={style}"]) == 0
    assert capsys.readouterr().out.count("not judged") == 2
    assert main(["compare", f"outputs={tmp_path}", f"chart={tmp_path}/a.png"]) == 2

    assert main(["score", str(directory), *judge]) == 0
    assert read_run(directory).score == 0.5


def test_a_finished_run_is_judged_when_a_judge_is_given(overrides, tmp_path, judge):
    run(compose_run(settings(overrides, tmp_path)))
    assert run(compose_run([*settings(overrides, tmp_path), *judge]))["answers"]["score"] == 0.5


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (["judge.base_url=ftp://x", "judge.model=a"], "base_url"),
        (["judge.base_url=http://127.0.0.1:1/v1"], r"judge\.model"),
        (["judge.modle=a"], "judge.modle.*did you mean 'model'"),
        (["judge.base_url=http://127.0.0.1:1/v1", "judge.model=a", "judge.concurrency=0"], "concurrency=0"),
    ],
)
def test_a_bad_judge_is_refused_before_anything_is_asked(setting, said, overrides, tmp_path):
    with pytest.raises(UserError, match=said):
        run(compose_run([*settings(overrides, tmp_path), *setting]))
    assert not list(tmp_path.rglob("predictions.jsonl"))
