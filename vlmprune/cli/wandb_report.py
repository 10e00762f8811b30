"""`vlmprune wandb-report`: a report of a W&B project with one grid of charts a benchmark, score against cost.

Every chart is made from run summaries alone (see loggers.wandb.summarise_result), one point a method and ratio.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vlmprune.config.arguments import parse
from vlmprune.errors import UserError
from vlmprune.files import check_writable
from vlmprune.loggers.wandb_account import PROJECT, has_api_key, server_address, wandb_settings
from vlmprune.results.find import find_runs

# title, and the quantity on the x axis; the y axis is the score
SCATTER_CHARTS = (
    ("Score against reduction", "reduction"),
    ("Score against FLOPs per question", "flops/total"),
    ("Score against prefill (% of unpruned in the same run)", "latency/relative/prefill_percent"),
    ("Score against end to end (% of unpruned in the same run)", "latency/relative/end_to_end_percent"),
    ("Score against prefill (ms, batch 1)", "latency/pruned/prefill_ms"),
    ("Score against end to end (ms, batch 1)", "latency/pruned/end_to_end_ms"),
    ("Score against layer-averaged tokens", "tokens/layer_averaged"),
    ("Score against peak memory (MB)", "memory/peak_mb"),
)
BARS = (
    ("Relative score", "relative_score"),
    ("End to end (% of unpruned)", "latency/relative/end_to_end_percent"),
    ("Prefill (ms)", "latency/pruned/prefill_ms"),
    ("FLOPs", "flops/total"),
)
GROUPS = ("model.name", "method.name", "ratio", "keep")  # of the config; seeds and repeats of one setting are one point
LEGEND = "${config:model.name} ${config:method.name} ratio=${config:ratio} keep=${config:keep}"
COLUMNS, WIDTH, HEIGHT = 3, 8, 7  # charts a row, and the size of one; W&B's grid is 24 wide

HELP = """\
vlmprune wandb-report [key=value ...]: a report of a W&B project, made for these runs.

  vlmprune wandb-report
  vlmprune wandb-report project=pruning entity=my-team name="cls against fastv"
  vlmprune wandb-report benchmark=pope,gqa file=report.json     as JSON, without an account or a network
  pip install 'vlmprune[wandb-report]'                          once

Each benchmark has one grid of charts: score against reduction, FLOPs, latency (in % of the unpruned model's in the same
run, and in ms), layer-averaged tokens and memory, bars, and the pictures of kept tokens. A point is the mean over the
runs of one model, method, ratio and keep.
Saving it needs an API key; docs/wandb.md describes the same charts by hand.

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune wandb-report`."""

    project: Annotated[str | None, "the project with the runs; WANDB_PROJECT, else vlmprune, if not given"] = None
    entity: Annotated[str | None, "its user or team; WANDB_ENTITY, else the account's own, if not given"] = None
    name: Annotated[str, "of the report"] = "vlmprune: score against cost"
    benchmark: Annotated[tuple[str, ...], "one grid each; those of the runs in outputs= if not given"] = ()
    outputs: Annotated[Path, "the folder of run directories"] = Path("outputs")
    file: Annotated[Path | None, "a file for the report, which is then not saved at W&B"] = None

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks of the report. Raises UserError if none is given and no run is finished."""
        found = list(self.benchmark) or sorted({run.benchmark for run in find_runs([self.outputs])[0]})
        if not found:
            raise UserError(f"outputs={self.outputs} has no finished run: give another folder, or benchmark=NAME,NAME")
        return found


def save_report(arguments: list[str]) -> int:
    """Save the report, or write it to a file; return the exit code. Raise UserError if that fails."""
    settings = parse("wandb-report", Settings, arguments)
    if settings.file is not None:
        path = settings.file
        check_writable("file", path)
        spec = report_spec(build_report(settings, "ENTITY"))
        try:
            path.write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"file={path} cannot be written: {error}") from error
        print(path)
        return 0
    if not has_api_key():
        raise UserError("wandb-report needs an account: run wandb login, set WANDB_API_KEY, or give file=report.json")
    print(send_report(settings))
    return 0


def send_report(settings: Settings) -> str:
    """Save the report on the server and return its address. Raises UserError if the server does not take it."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        entity = settings.entity or wandb_settings().entity or wandb.Api().default_entity
        if entity is None:
            raise UserError("entity: the account has no default user or team; give entity=NAME")
        report = build_report(settings, entity)
        report.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(
            f"W&B at {server_address()} did not take the report: {' '.join(str(error).split())[:200]}"
        ) from error
    return str(report.url)


def build_report(settings: Settings, entity: str) -> Any:
    """Return the report, as wandb_workspaces builds it; nothing is sent. Raises UserError without that package."""
    try:
        import wandb_workspaces.reports.v2 as reports
    except ImportError as error:
        raise UserError("wandb-report needs a package of W&B's: pip install 'vlmprune[wandb-report]'") from error
    blocks: list[Any] = []
    for benchmark in settings.benchmarks:
        # Without entity and project a set of runs is of the report's own project.
        runs = reports.Runset(
            name=benchmark,
            filters=f"Config('benchmark.name') == {benchmark!r}",
            groupby=[f"config.{key}" for key in GROUPS],
        )
        blocks += [reports.H2(benchmark), reports.PanelGrid(runsets=[runs], panels=build_panels())]
    project = settings.project or wandb_settings().project or PROJECT
    return reports.Report(project=project, entity=entity, title=settings.name, blocks=blocks, width="fluid")


def build_panels() -> list[Any]:
    """Return the charts of one benchmark, row by row, and its pictures of kept tokens below them."""
    import wandb_workspaces.reports.v2 as reports

    score = reports.SummaryMetric("score")
    panels: list[Any] = [
        reports.ScatterPlot(title=title, x=reports.SummaryMetric(x), y=score, legend_template=LEGEND)
        for title, x in SCATTER_CHARTS
    ]
    panels += [
        reports.BarPlot(title=title, metrics=[reports.SummaryMetric(name)], orientation="h", legend_template=LEGEND)
        for title, name in BARS
    ]
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        panel.layout = reports.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
    below = -(-len(panels) // COLUMNS) * HEIGHT
    whole = reports.Layout(x=0, y=below, w=COLUMNS * WIDTH, h=2 * HEIGHT)
    return [*panels, reports.MediaBrowser(title="Kept tokens", media_keys=["pictures"], layout=whole)]


def report_spec(report: Any) -> dict[str, Any]:
    """Return the report as the plain data that is sent when it is saved."""
    model = report._to_model()  # the package has no public way to see it without sending it
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
