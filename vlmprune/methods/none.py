"""The unpruned model: the run that every relative score is measured against."""

from dataclasses import dataclass
from typing import ClassVar

from vlmprune.methods.base import Method


@dataclass
class Unpruned(Method):
    """Keeps every token; the engine only looks on, for the record."""

    stage: ClassVar = "none"

    def keeps_all(self, n: int) -> bool:
        return True
