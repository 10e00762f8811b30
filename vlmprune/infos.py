"""What vlmprune itself reads of a choice's YAML, whoever wrote it: `info`, and an experiment's overrides."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT

Text = str | int | float | None  # what is only shown


class Info(TypedDict, total=False):
    """Describes a choice of any group. needs: signals that a method reads. lacks: those that a model does not have."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

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


class Choice(TypedDict):
    """A YAML of any group."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    info: NotRequired[Info | None]


class Experiment(Choice):
    """overrides: settings as typed behind `vlmprune sweep`."""

    overrides: list[str]
