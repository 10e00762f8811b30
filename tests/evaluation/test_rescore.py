"""`vlmprune score`: new scores in the old files, everything else untouched; judged later; nothing needs the model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from tests.benchmarks.judge_server import judge_server
from tests.results.synthetic import make_result
from vlmprune.cli.score import score
from vlmprune.errors import UserError
from vlmprune.evaluation.rescore import rescore
from vlmprune.results.runs import read_run

SCENES = {"_target_": "vlmprune.benchmarks.scenes.Scenes", "info": {"title": "x"}, "max_new_tokens": 8}
MMVET = {"_target_": "vlmprune.benchmarks.judged.MmVet", "path": "nowhere", "max_new_tokens": 8}


def run_directory(path, benchmark, predictions, finished=True):
    """A run directory with these predictions, all with a wrong score, as an old scorer might have left it."""
    path.mkdir()
    rows = [
        {
            "id": f"q{number}",
            "image_id": f"i{number}",
            "category": "color",
            "question": "What colour?",
            "answer": "red",
            "prediction": prediction,
            "score": 0.25,
            "extra": {"capability": "rec"},
            "visual": [[0, 5]],
        }
        for number, prediction in enumerate(predictions)
    ]
    result = make_result("cls", 0.9, rows) | {"comparable": {"benchmark": "b", "scorer": "old"}}
    (path / "config.yaml").write_text(yaml.safe_dump({"benchmark": benchmark}))
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (path / "result.json").write_text(json.dumps(result))
    return path


def read(path):
    lines = (path / "predictions.jsonl").read_text().splitlines()
    return json.loads((path / "result.json").read_text()), [json.loads(line) for line in lines]


def test_scores_are_renewed_and_the_rest_stays(tmp_path, capsys):
    path = run_directory(tmp_path / "run", SCENES, ["Red.", "blue", "red", ""])
    before, old_rows = read(path)
    assert score([str(path)]) == 0
    result, rows = read(path)
    assert [row["score"] for row in rows] == [1.0, 0.0, 1.0, 0.0]
    assert [row | {"score": 0.25} for row in rows] == old_rows
    assert result["answers"]["score"] == 0.5 and result["answers"]["samples"] == 4
    assert result["answers"]["tokens"] == before["answers"]["tokens"]
    assert result["timings"] == before["timings"] and result["finished"] == before["finished"]
    assert result["comparable"]["benchmark"] == "b" and result["comparable"]["scorer"] != "old"
    assert result["rescored"].keys() == {"date", "version"} and "judge" not in result
    assert capsys.readouterr().out.split() == [str(path), "accuracy", "0.5000"]
    assert read_run(path).score == 0.5  # `compare` reads it
    assert {file.name for file in path.iterdir()} == {"config.yaml", "predictions.jsonl", "result.json", ".lock"}


def test_scoring_twice_gives_the_same(tmp_path):
    path = run_directory(tmp_path / "run", SCENES, ["red", "blue"])
    first, _, _ = rescore(path, None)
    again, before, finished = rescore(path, None)
    assert again == first and before == 0.5 and finished


def test_answers_that_were_lost_are_missed(tmp_path):
    path = run_directory(tmp_path / "run", SCENES, ["red", "blue"])
    before = (path / "result.json").read_text()
    file = path / "predictions.jsonl"
    file.write_text(file.read_text()[:-30])
    with pytest.raises(UserError, match=r"has 1 answers, and its result.json is of 2: delete result.json"):
        score([str(path)])
    assert (path / "result.json").read_text() == before


def test_a_run_that_is_not_finished_gets_scores_but_no_result(tmp_path, capsys):
    path = run_directory(tmp_path / "run", SCENES, ["red"], finished=False)
    assert score([str(path)]) == 0
    assert "not finished" in capsys.readouterr().err and not (path / "result.json").exists()
    assert json.loads((path / "predictions.jsonl").read_text())["score"] == 1.0


def test_a_judge_scores_later_and_is_named(tmp_path, capsys):
    path = run_directory(tmp_path / "run", MMVET, ["Red.", "blue"])
    with pytest.raises(UserError, match=r"2 of 2 answers have to be judged: .*judge\.base_url"):
        score([str(path)])
    with judge_server(lambda _, body: "0.9" if "Red." in body["messages"][1]["content"] else "0.1") as server:
        assert score([str(path), f"judge.base_url={server.url}", "judge.model='4.1'", "judge.concurrency=2"]) == 0
        result, rows = read(path)
        assert [row["score"] for row in rows] == [0.9, 0.1] and result["answers"]["score"] == 0.5
        assert result["answers"]["metrics"] == {"score": 0.5, "rec": 0.5}
        assert result["judge"] == {"model": "4.1", "base_url": server.url, "protocol": "mmvet/1"}
        assert result["comparable"]["judge"] == "4.1"
        assert len(server.requests) == 2
    assert score([str(path)]) == 0  # from the verdicts that are there; the server is gone
    assert read(path)[0]["judge"]["model"] == "4.1" and read(path)[0]["answers"]["score"] == 0.5
    assert "rec" in capsys.readouterr().out


def test_several_folders_are_told_apart(tmp_path, capsys):
    first, second = (run_directory(tmp_path / name, SCENES, ["red", word]) for name, word in (("a", "red"), ("b", "x")))
    assert score([str(first), str(second)]) == 0
    assert capsys.readouterr().out.split() == [str(first), "accuracy", "1.0000", str(second), "accuracy", "0.5000"]


def test_answers_without_references_have_no_score(tmp_path, capsys):
    path = run_directory(tmp_path / "run", SCENES, ["red", "blue"])
    rows = [json.loads(line) | {"answer": ""} for line in (path / "predictions.jsonl").read_text().splitlines()]
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert score([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == [
        "accuracy",
        "none: the split has no public answers",
    ]
    assert read(path)[0]["answers"]["score"] is None


def test_a_judge_that_fails_changes_nothing(tmp_path):
    path = run_directory(tmp_path / "run", MMVET, ["red"])
    files = {file.name: file.read_text() for file in path.iterdir()}
    with judge_server(lambda *_: 401) as server, pytest.raises(UserError, match="401"):
        score([str(path), f"judge.base_url={server.url}", "judge.model=m"])
    assert {name: (path / name).read_text() for name in files} == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run directory"),
        (["RUN", "judge.base_url=http://h/v1", "judge.model=m"], "scored by rule"),
        (["RUN", "judge.base_url=http://h/v1"], r"judge\.model: missing"),
        (["RUN", "ratio=0.9"], "'ratio' does not exist"),
        (["RUN", "judge.base_url=h", "judge.model=m"], "http://host/v1"),
        (["RUN", "judge.base_url=http://h/v1", "judge.model=m", "judge.retries=x"], r"judge\.retries=x: expected"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, message):
    path = run_directory(tmp_path / "run", SCENES, ["red"])
    with pytest.raises(UserError, match=message) as caught:
        score([argument.replace("RUN", str(path)) for argument in arguments])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "benchmark: [", "config.yaml cannot be read"),
        ("config.yaml", "method: {}", "config.yaml cannot be read"),
        ("config.yaml", "benchmark: {_target_: no.such.Thing}", "of no benchmark here"),
        ("predictions.jsonl", "", "no answers"),
        ("predictions.jsonl", "{broken\n", "line 1 is not JSON"),
        ("result.json", "{", "result.json cannot be read"),
    ],
)
def test_a_damaged_directory_is_one_clear_line(tmp_path, file, content, message):
    path = run_directory(tmp_path / "run", SCENES, ["red"])
    (path / file).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        rescore(path, None)
    assert "\n" not in str(caught.value)


def test_the_model_is_not_needed(tmp_path):
    """transformers and the model code stay unimported: scoring is quick and runs where no model can."""
    path = run_directory(tmp_path / "run", SCENES, ["red"])
    code = (
        "import sys; from vlmprune.cli.score import score; score(sys.argv[1:]); "
        "print([name for name in ('transformers', 'vlmprune.models.loading', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
