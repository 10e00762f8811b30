"""Description of a metric: its name, its range, and its better end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A named metric of a set of answers. lowest, highest: its range, in the scale in which it is reported."""

    name: str
    lowest: float = 0.0
    highest: float = 1.0
    higher_is_better: bool = True
