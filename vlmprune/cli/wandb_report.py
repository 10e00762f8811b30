"""`vlmprune wandb-report`: a saved view of a W&B project with charts of score against cost.

Every chart is made from run summaries alone (see loggers.wandb.summarise_result), one point a run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vlmprune.config.arguments import parse
from vlmprune.errors import UserError
from vlmprune.files import check_writable
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


HELP = """\
vlmprune wandb-report [key=value ...]: a saved view of a W&B project, made for these runs.

  vlmprune wandb-report
  vlmprune wandb-report project=pruning entity=my-team name="cls against fastv"
  vlmprune wandb-report file=view.json        the view as JSON, without an account or a network

It has charts of score against reduction, FLOPs, prefill latency and memory, one point a run, and the pictures of kept
tokens. Needs pip install 'vlmprune[wandb-report]' and an API key; docs/wandb.md describes the same view by hand.

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune wandb-report`."""

    project: Annotated[str, "the project with the runs"] = "vlmprune"
    entity: Annotated[str | None, "its user or team; the account's own if not given"] = None
    name: Annotated[str, "of the view"] = "vlmprune: score against cost"
    file: Annotated[Path | None, "a file for the view, which is then not saved at W&B"] = None


def save_workspace(arguments: list[str]) -> int:
    """Save the view, or write it to a file; return the exit code. Raise UserError if that fails."""
    settings = parse("wandb-report", Settings, arguments)
    if settings.file is not None:
        path = settings.file
        check_writable("file", path)
        try:
            path.write_text(
                json.dumps(view_spec(build_view(settings, settings.entity or "ENTITY")), indent=2) + "\n",
                encoding="utf-8",
            )
        except OSError as error:
            raise UserError(f"file={path} cannot be written: {error}") from error
        print(path)
        return 0
    if not has_api_key():
        raise UserError("wandb-report needs an account: run wandb login, set WANDB_API_KEY, or give file=view.json")
    print(save_view(settings))
    return 0


def save_view(settings: Settings) -> str:
    """Save the view on the server and return its address. Raises UserError if the server does not take it."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        entity = settings.entity or wandb.Api().default_entity
        if entity is None:
            raise UserError("entity: the account has no default user or team; give entity=NAME")
        view = build_view(settings, entity)
        view.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(
            f"W&B at {server_address()} did not take the view: {' '.join(str(error).split())[:200]}"
        ) from error
    return str(view.url)


def build_view(settings: Settings, entity: str) -> Any:
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
        project=settings.project,
        name=settings.name,
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
