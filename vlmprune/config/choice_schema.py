"""Schemas of the parts of a choice's YAML that vlmprune reads: `info`, and an experiment's overrides."""

from __future__ import annotations

from typing import NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT

Text = str | int | float | None  # a value that is only printed


@with_config(STRICT)
class Info(TypedDict, total=False):
    """Description of a choice of any group. needs: signals that a method reads. lacks: those that a model lacks."""

    title: Text
    paper: Text
    family: str  # of a model: its model_type
    parameters: Text
    visual_tokens: Text
    has_cls: bool
    lacks: list[str]
    stage: str  # of a method
    needs: list[str]
    merges: bool
    positions: str
    task: Text  # of a benchmark
    size: Text
    metric: Text
    hub: Text
    needs_judge: bool
    extra: Text  # of a launcher: the optional package that it needs, as pip names it


@with_config(STRICT)
class Choice(TypedDict):
    """The YAML of a choice of any group."""

    info: NotRequired[Info | None]


class Experiment(Choice):
    """The YAML of an experiment. overrides: settings as typed after `vlmprune sweep`."""

    overrides: list[str]
