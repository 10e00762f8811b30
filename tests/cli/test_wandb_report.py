"""`vlmprune wandb-report`: the report as JSON, and saved on a stand-in server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.refusal import refusal
from tests.loggers.stand_in import stand_in
from tests.loggers.test_wandb import CONFIG
from tests.results.synthetic import make_run
from vlmprune.cli import main
from vlmprune.cli.wandb_report import LEGEND
from vlmprune.loggers.wandb import config_tree, summarise_result


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def grids(spec: dict) -> dict[str, dict]:
    """The grid of panels below each heading of a report."""
    blocks = [block for block in spec["blocks"] if block["type"] in ("heading", "panel-grid")]
    return {title["children"][0]["text"]: grid for title, grid in zip(blocks[::2], blocks[1::2], strict=True)}


def panels(grid: dict) -> list[dict]:
    return grid["metadata"]["panelBankSectionConfig"]["panels"]


def test_one_grid_a_benchmark_over_what_a_run_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    file, outputs = tmp_path / "report.json", tmp_path / "outputs"
    make_run(outputs, "none", benchmark="pope")
    directory = make_run(outputs, "cls", 0.9)
    make_run(outputs, "none")
    assert main(["wandb-report", f"file={file}", f"outputs={outputs}"]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    found = grids(json.loads(file.read_text()))
    assert list(found) == ["pope", "scenes"]
    summary = summarise_result(json.loads((directory / "result.json").read_text()), directory)
    for benchmark, grid in found.items():
        (runs,) = grid["metadata"]["runSets"]
        (only,) = runs["filters"]["filters"]
        assert (only["key"]["name"], only["op"], only["value"]) == ("benchmark.name", "=", benchmark)
        grouping = [key["name"] for key in runs["grouping"]]
        assert grouping == ["model.value.name", "method.value.name", "ratio.value", "keep.value"]
        scatter = [panel["config"] for panel in panels(grid) if panel["viewType"] == "Scatter Plot"]
        assert {config["yAxis"] for config in scatter} == {"summary:score"}
        axes = [config["xAxis"].removeprefix("summary:") for config in scatter]
        assert len(axes) == 8 and set(axes) <= summary.keys()
        places = [tuple(panel["layout"].values()) for panel in panels(grid)]
        assert len(set(places)) == len(places) == 13


def test_legends_name_keys_of_the_config() -> None:
    tree = config_tree(CONFIG, "f")
    for key in re.findall(r"\$\{config:(.*?)\}", LEGEND):
        value = tree
        for part in key.split("."):
            value = value[part]
        assert not isinstance(value, dict)


def test_the_report_is_saved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with stand_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert main(["wandb-report", "project=mine", "entity=team", "name=cost", "benchmark=a,b"]) == 0
    (sent,) = server.sent("upsertView")
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("team", "mine", "cost")
    assert list(grids(json.loads(sent["spec"]))) == ["a", "b"]
    assert f"{server.url}/team/mine/reports/cost" in capsys.readouterr().out


def test_without_runs_it_asks_for_a_benchmark(tmp_path: Path) -> None:
    assert "benchmark=NAME" in refusal("wandb-report", f"file={tmp_path}/a.json", f"outputs={tmp_path}")


def test_without_an_account_it_is_refused() -> None:
    pytest.importorskip("wandb_workspaces")
    assert "needs an account" in refusal("wandb-report")
