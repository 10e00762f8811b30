"""`vlmprune speed`: time, FLOPs and memory of methods on a fixed synthetic load, without a dataset."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from vlmprune.config.arguments import ConfigDir, Endings, OfRun, parse
from vlmprune.errors import UserError, error_text
from vlmprune.files import check_writable, to_json, write_atomically
from vlmprune.results.tables import FORMATS
from vlmprune.speed import Load
from vlmprune.terminal import say

DEFAULT = Load()
AMOUNTS = ("ratio", "keep", "positions", "scope", "budget")
OF_RUN = OfRun(("model", "method", *AMOUNTS, "compile", "seed", "device", "batch_size", "outputs"))
HELP = """\
vlmprune speed [key=value,value ...]: time, memory and FLOPs of methods beside the unpruned model, in one process.

  vlmprune speed
  vlmprune speed method=cls,divprune,fastv ratio=0.5,0.9 batch_size=1,8 chart=speed.png
  vlmprune speed model=llava-next-vicuna-7b model.random_weights=true method=cls,fastv ratio=0.5,0.75,0.9,0.95

The prompts are synthetic: random pixels and tokens, the same for all, so that no benchmark is needed and, with random
weights, no download. Achieved rates are shown beside those of a matrix product and a copy on the same device. A case
that does not fit into memory, or cannot run on the model, gets a row with the reason.

{settings}
"""


@dataclass(frozen=True)
class Settings:
    """Arguments of `vlmprune speed`. Raises UserError for a stored result together with what cannot change it."""

    overrides: Annotated[
        tuple[str, ...], OF_RUN, "as in `vlmprune run`; all but model, device and outputs take several values"
    ] = ()
    speed: Load = DEFAULT
    format: Annotated[str, Literal[tuple(FORMATS)]] = "table"
    json: Annotated[Path | None, Endings((".json",)), "by default a new one in outputs/speed/MODEL/"] = None
    chart: Annotated[Path | Literal["none"] | None, Endings((".png", ".svg")), "by default beside the result"] = None
    from_: Annotated[Path | None, Endings((".json",)), "a result to show again; nothing is measured"] = None
    config_dir: ConfigDir = None

    def __post_init__(self) -> None:
        given = [] if self.speed is DEFAULT else ["speed.*"]  # the default, and not one that equals it
        if self.from_ is not None and (others := [*self.overrides, *given]):
            raise UserError(f"from={self.from_}: is a result, and {others[0]} cannot change it; leave one of them out")


def speed(arguments: list[str]) -> int:
    """Measure, print the result, and write JSON and chart; return the exit code. Raise UserError for bad input."""
    settings = parse("speed", Settings, arguments)
    if settings.from_ is not None:
        return print_stored(settings.from_, settings)
    from vlmprune.evaluation.generation import read_rules
    from vlmprune.evaluation.plan import model_name
    from vlmprune.speed.load import plan_cases
    from vlmprune.speed.output import print_result, speed_chart
    from vlmprune.speed.rows import measure

    planned = plan_cases(settings.overrides, settings.config_dir)
    rules = read_rules(planned.checkpoint, planned.config.model.generation)
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Path(planned.config.outputs) / "speed" / model_name(planned.config)
    file, chart = settings.json or folder / f"{started}.json", settings.chart or folder / f"{started}.png"
    check_writable("json", file)
    if chart != "none":
        check_writable("chart", chart)
    if line := rules.summary_line(settings.speed.new_tokens):
        say(line)
    result: dict[str, Any] = {}
    try:
        for rows in measure(planned, settings.speed):
            result = rows | {"command": shlex.join(["vlmprune", "speed", *arguments])}
            write_atomically(file, to_json(result))
        if chart != "none":
            speed_chart(result, chart)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error})") from error
    finally:  # print what was measured so far, also if the disk is full or a later measurement fails
        if result:
            print_result(result, settings.format)
    say(f"\nfiles  {file}" + (f"\nchart  {chart}" if chart != "none" else ""))
    return 0


def print_stored(source: Path, settings: Settings) -> int:
    """Print a stored result and draw its chart, beside it unless chart= gives another file; return the exit code."""
    from vlmprune.speed.output import print_result, speed_chart
    from vlmprune.speed.result_schema import SpeedResult, add_timing_doubts
    from vlmprune.typed_json import read_json

    try:
        result: dict[str, Any] = dict(read_json(source, SpeedResult))
    except (OSError, ValueError) as error:
        raise UserError(f"from={source}: is no result of vlmprune speed ({error_text(error)})") from error
    add_timing_doubts(result["rows"])  # a result of an older version has none
    print_result(result, settings.format)
    chart = settings.chart or source.with_suffix(".png")
    if chart != "none":
        check_writable("chart", chart)
        speed_chart(result, chart)
        say(f"\nchart  {chart}")
    return 0
