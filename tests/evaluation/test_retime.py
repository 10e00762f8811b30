"""`vlmprune time`: new times in result.json, the earlier ones kept, everything else untouched; or one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import vlmprune
from tests.documented import undocumented
from tests.results.synthetic import as_json
from vlmprune.cli import main
from vlmprune.cli.time import time_runs
from vlmprune.errors import UserError
from vlmprune.evaluation import retime as module
from vlmprune.evaluation.run_directory import hold_folder, read_result
from vlmprune.results.schema import Result

QUICK = ["limit=4", "latency_samples=2", "show.samples=0", "logger=none", "device=cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run of a checkpoint in a folder, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    checkpoint = shutil.copytree(Path(vlmprune.__file__).parent / "tiny" / "checkpoint", folder / "model")
    model = ["model=path", f"model.path={checkpoint}"]
    assert main(["run", "method=cls", "ratio=0.9", *model, *QUICK, f"outputs={folder / 'outputs'}"]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    (found,) = (finished / "outputs").glob("*/*/cls-*")
    return shutil.copytree(found, tmp_path / "moved" / found.name)


def contents(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in run.iterdir() if file.is_file() and file.name != ".lock"}


def change_result(run: Path, **fields: Any) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | fields))


def test_times_are_replaced_and_all_else_stays(run, capsys):
    files, first = contents(run), read_result(run / "result.json")
    first["timings"]["latency"]["pruned"]["prefill"]["median_ms"] = 1e6  # on a very busy machine
    (run / "result.json").write_text(json.dumps(first))
    assert time_runs([str(run)]) == 0
    out = capsys.readouterr().out
    second = read_result(run / "result.json")
    assert {name: data for name, data in contents(run).items() if name != "result.json"} == {
        name: data for name, data in files.items() if name != "result.json"
    }
    changed = ("latency", "kv_cache_bytes", "earlier_latency")
    assert {**second, "timings": None} == {**first, "timings": None}
    same = [{name: value for name, value in each["timings"].items() if name not in changed} for each in (first, second)]
    assert same[0] == same[1] and second["timings"]["kv_cache_bytes"] == first["timings"]["kv_cache_bytes"]
    latency = second["timings"]["latency"]
    assert latency["samples"] == 2 and latency["pruned"]["prefill"]["median_ms"] < 1e5
    assert latency["measured"] >= first["timings"]["latency"]["measured"]
    assert second["timings"]["earlier_latency"] == [first["timings"]["latency"]]
    assert undocumented(second, Result) == []
    assert out.splitlines()[0] == str(run) and "before " in out and "1e+06 ms" in out
    (row,) = as_json(capsys, str(run))["groups"][0]["runs"]
    assert row["latency_prefill_ms"] == latency["pruned"]["prefill"]["median_ms"]


def test_every_timing_is_kept_with_its_date(run):
    first = read_result(run / "result.json")
    del first["timings"]["latency"]["measured"]  # an older result
    (run / "result.json").write_text(json.dumps(first))
    assert time_runs([str(run), "latency_samples=1"]) == 0
    assert time_runs([str(run)]) == 0
    timings = read_result(run / "result.json")["timings"]
    assert [each["samples"] for each in timings["earlier_latency"]] == [2, 1] and timings["latency"]["samples"] == 2
    assert timings["earlier_latency"][0] == first["timings"]["latency"] | {"measured": first["finished"]}


def test_a_run_that_was_not_timed_gets_its_first_times(run):
    result = json.loads((run / "result.json").read_text())
    result["timings"] |= {"latency": None, "kv_cache_bytes": None}
    result["settings"] = [each.replace("latency_samples=2", "latency_samples=0") for each in result["settings"]]
    (run / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="latency_samples=16 to time 16 questions"):
        time_runs([str(run)])
    assert time_runs([str(run), "latency_samples=1"]) == 0
    timings = read_result(run / "result.json")["timings"]
    assert timings["latency"]["samples"] == 1 and timings["kv_cache_bytes"]["pruned"] > 0
    assert "earlier_latency" not in timings


def refuses(run: Path, message: str, *arguments: str) -> None:
    """Check that `time` refuses in one line and changes no file."""
    files = contents(run)
    with pytest.raises(UserError, match=message) as caught:
        time_runs([str(run), *arguments])
    assert "\n" not in str(caught.value) and contents(run) == files


def test_an_unfinished_run_is_refused_before_another_is_timed(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "result.json").unlink()
    files = contents(run)
    with pytest.raises(UserError, match=r"other is not finished, 4 questions answered: the same `vlmprune run`"):
        time_runs([str(run), str(other)])
    assert contents(run) == files


def test_a_changed_checkpoint_is_refused(run, finished, tmp_path):
    copy = shutil.copytree(finished / "model", tmp_path / "model")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    settings = read_result(run / "result.json")["settings"]
    change_result(run, settings=[each.replace(str(finished / "model"), str(copy)) for each in settings])
    refuses(run, "the checkpoint changed since it was made, so that it would be another run today")


def test_a_missing_checkpoint_is_refused(run):
    settings = [each for each in read_result(run / "result.json")["settings"] if not each.startswith("model.path")]
    change_result(run, settings=[*settings, "model.path=/no/such/folder"])
    refuses(run, "cannot be timed: model.path=/no/such/folder")


def test_a_changed_method_is_refused(run):
    change_result(run, fingerprint="0" * 64)
    refuses(run, "the method's code or a setting of the model changed")


def test_a_recorded_class_or_config_folder_is_not_imported(run, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = read_result(run / "result.json")["settings"]
    change_result(run, settings=[*settings, f"--config-dir={tmp_path}", "method._target_=evil.X"])
    refuses(run, "_target_")
    change_result(run, settings=[*settings, f"--config-dir={tmp_path / 'nowhere'}"])
    assert time_runs([str(run)]) == 0  # the recorded folder is not looked at


def test_a_run_in_use_is_refused(run):
    with hold_folder(run):
        refuses(run, "is in use by another vlmprune process")


def test_an_interrupted_timing_leaves_the_old_result(run, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    files = contents(run)
    monkeypatch.setattr(module, "measure_questions", interrupt)
    with pytest.raises(KeyboardInterrupt):
        time_runs([str(run)])
    assert contents(run) == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a run directory"),
        (["nowhere"], "nowhere is not a run directory"),
        (["RUN", "ratio=0.5"], "'ratio' does not exist"),
        (["RUN", "latency_samples=x"], "latency_samples=x"),
        (["RUN", "device=gpu"], "device=gpu"),
    ],
)
def test_bad_input_is_one_clear_line(run, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        time_runs([each.replace("RUN", str(run)) for each in arguments])
    assert "\n" not in str(caught.value)
