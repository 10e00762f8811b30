"""`vlmprune speed` from the words typed to table, JSON and chart; compiled cases with torch's own tracing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.documented import fields, undocumented
from tests.models.hub import MODELS, save
from tests.speed.conftest import QUICK
from vlmprune.cli import main, speed
from vlmprune.cli.listing import missing_signals
from vlmprune.config.registry import read_choice
from vlmprune.speed import bench, rows
from vlmprune.speed.result_schema import SpeedResult

QUICK_FAMILIES = ("llava_next",)


def the_json(folder: Path) -> dict:
    (file,) = folder.rglob("*.json")
    return json.loads(file.read_text())


def test_settings_of_the_others_do_not_concern_the_unpruned_model(ceiling, tmp_path, capsys):
    settings = ["method=none,fastv", "method.k=3", "positions=renumber", "ratio=0.5", "batch_size=1"]
    assert main(["speed", *QUICK, *settings, f"outputs={tmp_path}"]) == 0
    assert [row["label"] for row in the_json(tmp_path)["rows"]] == ["unpruned", "fastv"]


def test_table_json_and_chart(ceiling, tmp_path, capsys):
    assert main(["speed", *QUICK, "method=none,cls,fastv", "ratio=0,0.5", "batch_size=1,2", f"outputs={tmp_path}"]) == 0
    out, err = capsys.readouterr()
    assert "ceiling 1.00 TFLOP/s, 100 GB/s" in out and "72/144" in out and "fewer FLOPs to the first token" in out
    assert "5 ways on tiny: 40 calls" in err

    result = the_json(tmp_path)
    assert result.keys() == fields(SpeedResult) and undocumented(result, SpeedResult) == []
    assert result["command"].startswith("vlmprune speed speed.new_tokens=3") and result["load"]["repeats"] == 2
    rows = result["rows"]
    labels = ["unpruned", "cls", "cls", "fastv", "fastv"]
    assert [(row["label"], row["batch_size"]) for row in rows] == [(label, size) for size in (1, 2) for label in labels]
    for row in rows:
        assert row["state"] == "measured" and row["ms"]["first_token"]["n"] == 2
        assert row["tokens"]["text"] == 16 and row["tokens"]["visual"] == 144
        kept = 72 if row["ratio"] == 0.5 else 144
        assert row["tokens"]["kept"] == kept
        fewer = {"unpruned": 0, "cls": 6, "fastv": 4}[row["label"]]  # layers that see `kept`
        key_and_value = 2 * 4 * 32 * 4  # of one position in one layer, float32
        assert row["kv_cache_bytes"] == row["batch_size"] * key_and_value * (6 * 160 - fewer * (144 - kept))

    (chart,) = tmp_path.rglob("*.png")
    with Image.open(chart) as picture:
        assert picture.width > 1000 and len(picture.getcolors(picture.width * picture.height)) > 20


@pytest.mark.slow
def test_other_formats(ceiling, tmp_path, capsys):
    settings = ["speed", *QUICK, "method=cls", "ratio=0.9", "batch_size=1", f"outputs={tmp_path}"]
    assert main([*settings[:-4], "method=cls,scm", "ratio=0.5,0.9", *settings[-2:], "format=markdown"]) == 0
    markdown = capsys.readouterr().out
    assert markdown.count("| 1 | cls | 90 % | ") == 2 and "| 1 | unpruned |  | 144/144 | " in markdown
    assert markdown.count("| - | scm |  | NOT APPLICABLE | ") == 2
    assert "NOT APPLICABLE scm at 50 %, 90 %: method 'scm' needs tiles" in markdown
    file = tmp_path / "mine" / "speed.json"
    assert main([*settings, "format=csv", f"json={file}", f"chart={file.with_suffix('.svg')}"]) == 0
    unpruned, cls = csv.DictReader(io.StringIO(capsys.readouterr().out))
    recorded = json.loads(file.read_text())["rows"][1]
    assert float(cls["ms_first_token_median_ms"]) == recorded["ms"]["first_token"]["median_ms"]
    assert (unpruned["ratio"], cls["ratio"], cls["tokens_kept"]) == ("", "0.9", "14")
    assert file.with_suffix(".svg").read_text().startswith("<?xml")
    assert main(["speed", f"from={file}", "chart=none", "format=json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())


@pytest.mark.parametrize(
    "family",
    [family if family in QUICK_FAMILIES else pytest.param(family, marks=pytest.mark.slow) for family in MODELS],
)
def test_every_family_with_random_weights(ceiling, family, tmp_path, capsys):
    """Prompts of exactly the asked length; what the family cannot run is a row that says why."""
    folder = save(tmp_path / family, family)
    (folder / "model.safetensors").unlink()
    model = ["model=path", f"model.path={folder}", "model.random_weights=true"]
    settings = [*QUICK, "method=cls,fastv,visionzip,tome", "ratio=0.75", "batch_size=2", f"outputs={tmp_path}"]
    assert main(["speed", *model, *settings]) == 0
    out, rows = capsys.readouterr().out, the_json(tmp_path / "speed")["rows"]
    info = read_choice("model", MODELS[family])["info"]
    unable = {
        name
        for name in ("cls", "fastv", "visionzip", "tome")
        if missing_signals(info, read_choice("method", name)["info"])
    }
    assert {row["label"] for row in rows if row["state"] == "not applicable"} == unable
    assert all(f"NOT APPLICABLE {name} at 75 %: method '{name}' needs" in out for name in unable)
    for row in rows:
        if row["label"] not in unable:
            assert row["state"] == "measured" and row["tokens"]["text"] == 16 and row["flops_ratio"] >= 1
            kept, newlines = row["tokens"]["kept"], row["tokens"]["visual"] // 7
            assert row["label"] == "unpruned" or kept <= row["tokens"]["visual"] / 4 + newlines


@pytest.mark.parametrize(
    "settings, value, hint",
    [
        (["method=clss"], "method 'clss'", "did you mean 'cls'"),
        (["ratio=1.2"], "ratio=1.2", "0 to 1"),
        (["model=tiny,llava-1.5-7b"], "one model on one device", "one value each"),
        (["model=llava-1.5-7b", "model.random_weights=true", "method=scm"], "method 'scm' needs tiles", "that work"),
        (["model=llava-1.5-13b-x"], "'llava-1.5-13b-x'", "did you mean 'llava-1.5-13b'"),
        (["batch_size=0"], "batch_size=0", "1 or more"),
        (["batch_size=1,two"], "batch_size=two", "an integer"),
        (["method=fastv", "method.k=9"], "k=9", "1 to 5"),
        (["method=cls,fastv", "method.kk=2"], "'method.kk'", "not a setting of method=cls"),
        (["method=cls", "ratio=null"], "no amount", "give ratio= or keep="),
        (["benchmark=gqa"], "setting of speed 'benchmark'", "batch_size"),
        (["format=html"], "format 'html'", "markdown"),
        (["fast"], "'fast'", "key=value"),
        (["speed.repeats=many"], "speed.repeats=many", "an integer"),
        (["speed=3"], "'speed'", "speed.new_tokens"),
        (["device=cuda:99"], "device=cuda:99", "device=cpu"),
    ],
)
def test_bad_input_is_one_line(settings, value, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "load_model", lambda _: pytest.fail("loaded a model"))
    assert main(["speed", f"outputs={tmp_path / 'outputs'}", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert value in line and hint in line
    assert not list(tmp_path.rglob("*.*"))


def test_a_model_that_does_not_fit_is_one_line(ceiling, tmp_path, monkeypatch, capsys):
    def too_large(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 28 GB")

    monkeypatch.setattr(rows.loading, "load", too_large)
    assert main(["speed", f"outputs={tmp_path}"]) == 2
    assert "do not fit on cpu" in capsys.readouterr().err


def test_a_full_disk_loses_no_table(ceiling, tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(speed, "write_atomically", full)
    assert main(["speed", *QUICK, "method=cls", "keep=9", "batch_size=1", f"outputs={tmp_path}"]) == 2
    out, err = capsys.readouterr()
    assert "keep 9" in out and "9/144" in out
    assert "No space left" in err.splitlines()[-1]


@pytest.mark.slow
def test_compiled_rows(ceiling, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "BACKEND", "eager")
    cases = ["method=none,cls,fastv", "ratio=0.9", "compile=false,true", "batch_size=1"]
    assert main(["speed", *QUICK, *cases, f"outputs={tmp_path}"]) == 0
    rows = {row["label"]: row for row in the_json(tmp_path)["rows"]}
    assert list(rows) == ["unpruned", "unpruned compiled", "cls", "cls compiled", "fastv", "fastv compiled"]
    assert rows["fastv compiled"]["state"] == "not applicable"
    assert "compile=true: fastv keeps other tokens for every question" in capsys.readouterr().out
    for name in ("unpruned", "cls"):
        plain, compiled = rows[name], rows[f"{name} compiled"]
        for same in ("tokens", "flops", "kv_cache_bytes", "bytes_per_step", "flops_ratio"):
            assert plain[same] == compiled[same]
        ms = {part: value["median_ms"] for part, value in compiled["ms"].items()}
        assert ms["vision"] > 0 and ms["prefill"] > 0 and ms["decode_per_token"] > 0


@pytest.mark.slow
def test_with_inductor(ceiling, tmp_path):
    cases = ["method=cls", "ratio=0.9", "compile=false,true", "batch_size=1"]
    assert main(["speed", *QUICK, *cases, "chart=none", f"outputs={tmp_path}"]) == 0
    assert [row["state"] for row in the_json(tmp_path)["rows"]] == ["measured"] * 3


def test_a_stored_result_is_shown_again(ceiling, tmp_path, capsys):
    assert (
        main(["speed", *QUICK, "method=cls", "ratio=0.9", "batch_size=1", f"json={tmp_path}/a.json", "chart=none"]) == 0
    )
    first = capsys.readouterr().out
    assert not list(tmp_path.glob("*.png")) and "chart" not in first.splitlines()[-1]
    assert main(["speed", f"from={tmp_path}/a.json"]) == 0
    again = capsys.readouterr().out
    table = [line for line in again.splitlines() if " cls " in line]
    assert table and set(table) <= set(first.splitlines())
    assert (tmp_path / "a.png").stat().st_size > 10_000
