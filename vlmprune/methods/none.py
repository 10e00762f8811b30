"""The unpruned model: the run that every relative score is measured against."""

from dataclasses import dataclass
from typing import ClassVar

from vlmprune.methods.base import Method


@dataclass
class Unpruned(Method):
    """Keeps every token; the engine only looks on, for the record. No position changes, whatever `positions` says."""

    stage: ClassVar = "none"

    def __post_init__(self) -> None:
        self.positions = "published"  # one run, to which all others are compared

    def keeps_all(self, n: int) -> bool:
        return True
