"""Schemas of the parts of a choice's YAML that vlmprune reads: `info`, and an experiment's overrides."""

from __future__ import annotations

from typing import NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT

PrintedValue = str | int | float | None  # a value that is only printed


@with_config(STRICT)
class Info(TypedDict, total=False):
    """Description of a choice of any group. needs: signals that a method reads. lacks: those that a model lacks."""

    title: PrintedValue
    paper: PrintedValue
    family: str  # of a model: its model_type
    parameters: PrintedValue
    visual_tokens: PrintedValue
    has_cls: bool
    lacks: list[str]
    stage: str  # of a method
    needs: list[str]
    merges: bool
    positions: str
    task: PrintedValue  # of a benchmark
    size: PrintedValue
    metric: PrintedValue
    hub: PrintedValue
    needs_judge: bool
    extra: PrintedValue  # of a launcher: the optional package that it needs, as pip names it


@with_config(STRICT)
class Choice(TypedDict):
    """The YAML of a choice of any group."""

    info: NotRequired[Info | None]


class Experiment(Choice):
    """The YAML of an experiment. overrides: settings as typed after `vlmprune sweep`."""

    overrides: list[str]
