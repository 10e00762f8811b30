"""Settings of `vlmprune speed`: those of a run that concern speed, and those of this command alone.

The latter are read here and not from run.yaml, because a run's config.yaml must not contain them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from vlmprune.arguments import read_settings
from vlmprune.errors import UserError, choose, nearest
from vlmprune.files import expanded
from vlmprune.overrides import group_of, parse_overrides
from vlmprune.schema import check_type, construct

OF_A_RUN = (
    "model",
    "method",
    "ratio",
    "keep",
    "positions",
    "scope",
    "budget",
    "compile",
    "seed",
    "device",
    "batch_size",
    "outputs",
)
FORMATS = ("table", "markdown", "csv", "json")
OWN = ("format", "json", "chart", "from")
METHODS, RATIOS, BATCH_SIZES = "method=cls,fastv", "ratio=0.5,0.9", "batch_size=1,8"  # defaults
NONE = Path("none")  # chart=none


@dataclass(frozen=True)
class Load:
    """The fixed synthetic load, the same for every method; set by `vlmprune speed speed.NAME=VALUE`."""

    prompt_tokens: Annotated[int, Interval(ge=8, le=1_000_000)] = (
        64  # text tokens of each prompt: all but its visual tokens
    )
    new_tokens: Annotated[int, Interval(ge=1, le=1_000_000)] = (
        32  # generated for every prompt; end-of-sequence tokens are ignored
    )
    image_size: Annotated[int, Interval(ge=28, le=16_384)] = (
        672  # pixels along a side of the random square image; the processor resizes it
    )
    repeats: Annotated[int, Interval(ge=1, le=100_000)] = 7  # timed calls of each method
    warm_up: Annotated[int, Interval(ge=1, le=100_000)] = 2  # untimed calls of each method before them


@dataclass
class Request:
    """The parsed command. overrides: those of runs, without batch_size; json, chart: None for the default file.

    source: a stored result to print; nothing is measured then.
    """

    overrides: list[str] = field(default_factory=list)
    batch_sizes: str = BATCH_SIZES
    load: Load = field(default_factory=Load)
    format: str = "table"
    json: Path | None = None
    chart: Path | None = None
    source: Path | None = None


def parse(settings: list[str]) -> Request:
    """Parse the command's settings. Raise UserError with the allowed values and the nearest match."""
    request, own = Request(), []
    for setting, override in zip(settings, parse_overrides(settings), strict=True):
        head, key = group_of(override.key_or_group), override.key_or_group
        if key == "speed":
            names = ", ".join(f"speed.{each.name}" for each in fields(Load))
            raise UserError(f"{setting}: is a group of settings; allowed: {names}")
        if head not in (allowed := sorted([*OF_A_RUN, "speed", *OWN])):
            raise UserError(f"'{key}' is not a setting of speed{nearest(head, allowed)}; allowed: {', '.join(allowed)}")
        if head in ("speed", *OWN):
            own.append(setting)
        elif head == "batch_size":
            request.batch_sizes = setting
        else:
            request.overrides.append(setting)
    load = [override.key_or_group for override in parse_overrides(own) if override.key_or_group not in OWN]
    values = read_settings(own, "speed", one=[*OWN, *load])
    request.format = choose(str(values.get("format", "table")), FORMATS, "format")
    request.json, request.chart = (_file(key, values.get(key)) for key in ("json", "chart"))
    request.source = _file("from", values.get("from"))
    others = [*request.overrides, *(setting for setting in own if group_of(setting) == "speed")]
    if request.source is not None and others:
        raise UserError(f"from={request.source}: is a result, and {others[0]} cannot change it; leave one of them out")
    given = {setting.partition("=")[0] for setting in request.overrides}
    request.overrides += [METHODS] * ("method" not in given) + [RATIOS] * given.isdisjoint(("ratio", "keep"))
    request.load = construct(Load, {key.removeprefix("speed."): values[key] for key in load}, "speed.")
    return request


def _file(key: str, value: Any) -> Path | None:
    check_type(key, value, str | None)
    if value is None:
        return None
    if key == "chart" and value == "none":
        return NONE
    endings = {"json": (".json",), "from": (".json",), "chart": (".png", ".svg")}[key]
    if Path(value).suffix not in endings:
        raise UserError(f"{key}={value}: allowed: a file name that ends in {' or '.join(endings)}")
    return expanded(key, value)
