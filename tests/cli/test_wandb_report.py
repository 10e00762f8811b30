"""`vlmprune wandb-report`: the view as JSON, and saved on a stand-in server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.refusal import refusal
from tests.loggers.stand_in import stand_in
from tests.results.synthetic import make_run
from vlmprune.cli import main
from vlmprune.loggers.wandb import summarise_result


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def charts(spec: dict) -> list[dict]:
    return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


def test_every_axis_is_in_a_runs_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    file = tmp_path / "view.json"
    assert main(["wandb-report", f"file={file}"]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    scatter = [panel["config"] for panel in charts(json.loads(file.read_text())) if panel["viewType"] == "Scatter Plot"]
    make_run(tmp_path, "none")
    directory = make_run(tmp_path, "cls", 0.9)
    summary = summarise_result(json.loads((directory / "result.json").read_text()), directory)
    assert {config["yAxis"] for config in scatter} == {"summary:score"}
    axes = [config["xAxis"].removeprefix("summary:") for config in scatter]
    assert len(axes) == 6 and set(axes) <= summary.keys()


def test_the_view_is_saved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with stand_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert main(["wandb-report", "project=mine", "entity=team", "name=cost"]) == 0
    (sent,) = server.sent("UpsertView2")
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("team", "mine", "cost")
    assert len(charts(json.loads(sent["spec"]))) >= 7
    assert f"{server.url}/team/mine" in capsys.readouterr().out


def test_without_an_account_it_is_refused() -> None:
    pytest.importorskip("wandb_workspaces")
    assert "needs an account" in refusal("wandb-report")
