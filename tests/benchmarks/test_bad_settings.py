"""Settings of benchmarks that cannot work: exit code 2 and one line. In one process, unlike tests/cli."""

from __future__ import annotations

import pytest

from vlmprune.cli import main

CASES = [
    (["run", "limit=ten"], "limit=ten", "10%"),
    (["run", "shard=5/4"], "shard=5/4", "1 to n"),
    (["run", "on_bad_sample=skpi"], "on_bad_sample=skpi", "did you mean 'skip'"),
    (["run", "ratio=0.5", "data=/no/such/folder"], "/no/such/folder", "no such folder"),
    (["run", "ratio=0.5", "benchmark=tgif"], "benchmark.path is empty", "give a folder"),
    (["run", "ratio=0.5", "benchmark=activitynet"], "lmms-eval/ActivityNetQA", "benchmark.videos=/folder"),
    (["run", "experiment=fastervlm"], "fastervlm", "vlmprune sweep"),
    (["sweep", "experiment=fastervml"], "experiment 'fastervml'", "did you mean 'fastervlm'"),
    (["score"], "run directory", "vlmprune score"),
    (["score", "/no/such/run"], "/no/such/run", "not a run directory"),
    (["run", "ratio=0.5", "benchmark=folder"], "benchmark.path=", "questions.jsonl"),
    (["run", "ratio=0.5", "benchmark=videomme", "benchmark.num_frames=0"], "num_frames=0", "1 or more"),
    (["run", "ratio=0.5", "benchmark=mmbench", "benchmark.average=circle"], "average=circle", "circular"),
    (["run", "ratio=0.5", "benchmark=pope", "benchmark.colums.id=x"], "benchmark.colums", "did you mean 'columns'"),
]


@pytest.mark.parametrize(("arguments", "value", "hint"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_clear_line(arguments, value, hint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("vlmprune: ") and value in line and hint.lower() in line.lower()
    assert not list(tmp_path.rglob("result.json"))
