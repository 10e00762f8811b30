"""The unpruned model: the run that every relative score is measured against."""

from dataclasses import dataclass
from typing import ClassVar

from vlmprune.methods.base import Method


@dataclass
class Unpruned(Method):
    """Keeps every token; the engine installs no hook at all."""

    stage: ClassVar = "none"

    def keeps_all(self, n: int) -> bool:
        return True
