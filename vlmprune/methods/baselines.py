"""The unpruned model, the reference of every relative score."""

from dataclasses import dataclass
from typing import ClassVar

from vlmprune.methods.base import Method


@dataclass
class Unpruned(Method):
    """Keeps every token; the engine only records the prompt. `positions` has no effect, as no position changes."""

    stage: ClassVar = "none"

    def __post_init__(self) -> None:
        self.positions = "published"  # one reference run for every value of `positions`

    def keeps_all(self, n: int) -> bool:
        return True
