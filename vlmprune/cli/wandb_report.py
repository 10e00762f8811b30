"""`vlmprune wandb-report`: a saved view of a W&B project with charts of score against cost.

Every chart is made from run summaries alone (see loggers.wandb.summarise_result), one point a run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from vlmprune.config.arguments import read_settings
from vlmprune.config.typecheck import construct
from vlmprune.errors import UserError
from vlmprune.files import check_writable, expand_path
from vlmprune.loggers.wandb_account import has_api_key, server_address

# title, and the quantity on the x axis; the y axis is the score
SCATTER_CHARTS = (
    ("Score against reduction", "reduction"),
    ("Score against FLOPs per question", "flops/total"),
    ("Score against prefill (ms, batch 1)", "latency/pruned/prefill_ms"),
    ("Score against end to end (ms, batch 1)", "latency/pruned/end_to_end_ms"),
    ("Score against layer-averaged tokens", "tokens/layer_averaged"),
    ("Score against peak memory (MB)", "memory/peak_mb"),
)
BARS = (("Relative score", "relative_score"), ("Prefill (ms)", "latency/pruned/prefill_ms"), ("FLOPs", "flops/total"))


@dataclass(frozen=True)
class ReportRequest:
    """Settings of the command. entity: None is the account's default. file: write JSON there instead of saving."""

    project: str = "vlmprune"
    entity: str | None = None
    name: str = "vlmprune: score against cost"
    file: str | None = None


def save_workspace(settings: Sequence[str]) -> int:
    """Save the view, or write it to a file; returns the exit code. Raises UserError if that fails."""
    names = [field.name for field in fields(ReportRequest)]
    request = construct(ReportRequest, read_settings(list(settings), "wandb-report", one=names), "")
    if request.file is not None:
        path = expand_path("file", request.file)
        check_writable("file", path)
        try:
            path.write_text(
                json.dumps(view_spec(build_view(request, request.entity or "ENTITY")), indent=2) + "\n",
                encoding="utf-8",
            )
        except OSError as error:
            raise UserError(f"file={path} cannot be written: {error}") from error
        print(path)
        return 0
    if not has_api_key():
        raise UserError("wandb-report needs an account: run wandb login, set WANDB_API_KEY, or give file=view.json")
    print(save_view(request))
    return 0


def save_view(request: ReportRequest) -> str:
    """Save the view on the server and return its address. Raises UserError if the server does not take it."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        entity = request.entity or wandb.Api().default_entity
        if entity is None:
            raise UserError("entity: the account has no default user or team; give entity=NAME")
        view = build_view(request, entity)
        view.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(
            f"W&B at {server_address()} did not take the view: {' '.join(str(error).split())[:200]}"
        ) from error
    return str(view.url)


def build_view(request: ReportRequest, entity: str) -> Any:
    """Return the view, as wandb_workspaces builds it; nothing is sent. Raises UserError without that package."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise UserError("wandb-report needs a package of W&B's: pip install 'vlmprune[wandb-report]'") from error
    score = panels.SummaryMetric("score")
    charts: list[Any] = [
        panels.ScatterPlot(title=title, x=panels.SummaryMetric(x), y=score, legend_template="${run:displayName}")
        for title, x in SCATTER_CHARTS
    ]
    bars: list[Any] = [
        panels.BarPlot(title=title, metrics=[panels.Metric(name)], orientation="h") for title, name in BARS
    ]
    media = panels.MediaBrowser(title="Kept tokens", media_keys=["pictures"])
    return workspaces.Workspace(
        entity=entity,
        project=request.project,
        name=request.name,
        sections=[
            workspaces.Section(name="Score against cost", panels=charts, is_open=True),
            workspaces.Section(name="Runs", panels=bars, is_open=True),
            workspaces.Section(name="Pictures", panels=[media], is_open=True),
        ],
        settings=workspaces.WorkspaceSettings(max_runs=100),
    )


def view_spec(view: Any) -> dict[str, Any]:
    """Return the view as the plain data that is sent when it is saved."""
    model = view._to_model()  # the package has no public way to see it without sending it
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
