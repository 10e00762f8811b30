"""Bad input: exit code 2, one line that names the value, what is allowed and the nearest match, nothing written."""

from __future__ import annotations

import json

import pytest

from vlmprune.cli import main

CASES = [
    (["run", "method=clss"], "method 'clss'", "did you mean 'cls'"),
    (["run", "model=tinny"], "model 'tinny'", "did you mean 'tiny'"),
    (["run", "benchmark=scene"], "benchmark 'scene'", "did you mean 'scenes'"),
    (["run", "ratio=1.5"], "ratio=1.5", "0 to 1"),
    (["run", "ratio=-0.1"], "ratio=-0.1", "0 to 1"),
    (["run", "ratio=nan"], "ratio=nan", "0 to 1"),
    (["run", "ratio=abc"], "ratio=abc", "a number"),
    (["run", "ratios=0.5"], "'ratios'", "did you mean 'ratio'"),
    (["run", "keep=-1"], "keep=-1", "0 or more"),
    (["run", "keep=2.5"], "keep=2.5", "an integer"),
    (["run", "method=cls"], "no amount", "give ratio= or keep="),
    (["run", "method=fastv"], "no amount", "give ratio= or keep="),
    (["run", "method=cls,fastv", "ratio=0.5"], "method=cls,fastv", "vlmprune sweep"),
    (["run", "method=vispruner", "keep=9", "method.important_ratio=2"], "important_ratio=2", "0 to 1"),
    (["run", "method=vtc_cls", "keep=9", "method.start_layer=40"], "start_layer=40", "allowed"),
    (["run", "method=visionzip", "keep=4", "method.contextual=9"], "contextual=9", "0 to 3"),
    (["run", "ratio=0.5", "latency_samples=-1"], "latency_samples=-1", "0 or more"),
    (["run", "ratio=0.5", "device=meta"], "device=meta", "cuda"),
    (["run", "ratio=0.5", "benchmark.max_new_tokens=0"], "max_new_tokens=0", "1 or more"),
    (["sweep", "method=glob(*)"], "glob", "values"),
    (["run", "ratio=0.5", "keep=3"], "ratio=0.5 and keep=3", "not both"),
    (["run", "method=none", "ratio=0.5"], "ratio=0.5", "none keeps every token"),
    (["run", "batch_size=0"], "batch_size=0", "1 or more"),
    (["run", "limit=0"], "limit=0", "1 or more"),
    (["run", "method=fastv", "ratio=0.5", "method.k=9"], "k=9", "1 to 5"),
    (["run", "method=fastv", "method.kk=3"], "'method.kk'", "did you mean 'k'"),
    (["run", "method=cls", "ratio=0.5", "method.keep_order=spatail"], "keep_order=spatail", "did you mean 'spatial'"),
    (["run", "model.dtype=float23"], "dtype=float23", "did you mean 'float32'"),
    (["run", "model=path"], "model.path", "missing"),
    (["run", "model=path", "model.path=/no/such/folder", "ratio=0.5"], "/no/such/folder", "no such folder"),
    (["run", "device=gpu", "ratio=0.5"], "device=gpu", "cuda"),
    (["run", "device=cuda:99", "ratio=0.5"], "device=cuda:99", "device=cpu"),
    (["run", "benchmark=gqa", "ratio=0.5"], "lmms-lab-encoder/GQA", "benchmark.path="),
    (["run", "model=llava-1.5-7b", "ratio=0.5"], "llava-hf/llava-1.5-7b-hf", "model.path="),
    (["run", "outputs=/proc/nowhere", "ratio=0.5"], "/proc/nowhere", "cannot be used"),
    (["run", "nonsense"], "'nonsense'", "key=value"),
    (["run", "--config-dir", "nowhere"], "nowhere", "no such folder"),
    (["run", "--fast"], "--fast", "allowed"),
    (["sweep", "method=cls,clss"], "method 'clss'", "did you mean 'cls'"),
    (["sweep", "baselines=no"], "baselines=no", "true, false"),
    (["list", "method"], "'method'", "did you mean 'methods'"),
    (["runn"], "'runn'", "did you mean 'run'"),
    (["compare"], "outputs", "vlmprune"),
]


@pytest.mark.parametrize(("arguments", "value", "hint"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_clear_line(tmp_path, monkeypatch, capfd, arguments, value, hint):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2  # in this process, where torch is imported already; a traceback would be an exception
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    line = lines[0]
    assert line.startswith("vlmprune: ")
    assert value in line and hint.lower() in line.lower()
    assert not list(tmp_path.rglob("result.json"))


def test_exit_code_of_the_command(vlmprune):
    done = vlmprune("run", "method=clss")
    assert done.returncode == 2
    assert done.stderr == "vlmprune: " + done.stderr.removeprefix("vlmprune: ").strip() + "\n"


def test_a_directory_of_another_fingerprint_is_refused(vlmprune, tmp_path):
    quick = ("limit=4", "latency_samples=0", "logger=none")
    assert vlmprune("run", "method=none", *quick).returncode == 0
    (file,) = tmp_path.rglob("result.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "0" * 64}))
    done = vlmprune("run", "method=none", *quick)
    assert done.returncode == 2
    assert "belongs to another run" in done.stderr and "000000000000" in done.stderr
