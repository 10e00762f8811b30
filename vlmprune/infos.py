"""The parts of a choice's YAML that vlmprune itself reads: `info`, and an experiment's overrides."""

from __future__ import annotations

from typing import NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT

Text = str | int | float | None  # what is only shown


@with_config(STRICT)
class Info(TypedDict, total=False):
    """Describes a choice of any group. needs: signals that a method reads. lacks: those that a model does not have."""

    title: Text
    paper: Text
    family: str  # of a model: its model_type
    parameters: Text
    visual_tokens: Text
    has_cls: bool
    lacks: list[str]
    stage: str  # of a method: where it acts
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
    """A YAML of any group."""

    info: NotRequired[Info | None]


class Experiment(Choice):
    """overrides: settings as typed behind `vlmprune sweep`."""

    overrides: list[str]
