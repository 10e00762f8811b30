"""Latency of finished runs in text, and the signs that other work of the machine is in it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprune.results.runs import Run

if TYPE_CHECKING:
    from vlmprune.results.comparison import Row

DOUBTFUL = "?"  # marks times that are not to be trusted
MOST_SPREAD = 1.5  # 90th percentile over median; above it, the calls of one part were not alike
MOST_APART = 1.2  # the unpruned model's medians in two runs: it is the same model, with the same questions
# Of the times; two runs compare where they are equal.
CONDITIONS = ("device", "device_name", "threads", "openmp", "attention")


@dataclass(frozen=True)
class TimingDoubt:
    """Reasons not to trust the prefill times of a run; None for a reason that does not apply, and one applies.

    spread: 90th percentile over median of its pruned or its unpruned calls, the larger one. slower: the unpruned
    model's median over the smallest one in a run of the same table, device and settings.
    """

    spread: float | None
    slower: float | None

    def __str__(self) -> str:
        spread = None if self.spread is None else f"p90 of prefill is {self.spread:.1f}x the median"
        slower = None if self.slower is None else f"the unpruned prefill took {self.slower:.1f}x that of another run"
        return "; ".join(filter(None, [spread, slower]))


def spread_of(median: float | None, p90: float | None) -> float | None:
    """Return p90 / median if it is above MOST_SPREAD; else, and where one of them was not recorded, None."""
    return p90 / median if median and p90 and p90 > MOST_SPREAD * median else None


def find_timing_doubt(run: Run, group: list[Run]) -> TimingDoubt | None:
    """Return the reasons not to trust the prefill times of `run`; None if there is none. group: runs of its table."""
    sides = ((run.pruned_ms, run.pruned_p90_ms), (run.unpruned_ms, run.unpruned_p90_ms))
    spreads = [spread_of(medians.get("prefill"), p90s.get("prefill")) for medians, p90s in sides]
    spread = max((each for each in spreads if each is not None), default=None)
    own, slower = run.unpruned_ms.get("prefill"), None
    if own is not None:
        alike = [other.unpruned_ms.get("prefill") for other in group if _conditions(other) == _conditions(run)]
        smallest = min((each for each in alike if each), default=own)
        slower = own / smallest if own > MOST_APART * smallest else None
    return None if spread is slower is None else TimingDoubt(spread, slower)


def _conditions(run: Run) -> list[Any]:
    return [run.timing_environment.get(name) for name in CONDITIONS]


def relative_time(run: Run, part: str = "end_to_end") -> float | None:
    """Return a part's time in % of the unpruned model's, measured in turn in the same run; None if not measured.

    Other work of the machine makes both longer, so that runs on a busy machine still compare. 100 for the unpruned run.
    """
    ours, unpruned = run.pruned_ms.get(part), run.unpruned_ms.get(part)
    if ours is None or not unpruned:
        return None
    return 100.0 if run.is_unpruned else 100 * ours / unpruned


def timing_notes(rows: list[Row]) -> list[str]:
    """Return a note that explains the mark DOUBTFUL; [] if no row has it."""
    doubtful = [(row, row.timing_doubt) for row in rows if row.timing_doubt is not None]
    spread = [(row, doubt.spread) for row, doubt in doubtful if doubt.spread is not None]
    slower = [(row, doubt.slower) for row, doubt in doubtful if doubt.slower is not None]
    if not doubtful:
        return []
    reasons = []
    if spread:
        most = max(value for _, value in spread)
        named = _names([row for row, _ in spread])
        reasons.append(f"p90 up to {most:.1f}x the median ({named}; or their prompts differ much in length)")
    if slower:
        most = max(value for _, value in slower)
        named = _names([row for row, _ in slower])
        reasons.append(f"the unpruned model up to {most:.1f}x as slow as in another run ({named})")
    why = "prefill times not to be trusted; the machine probably did other work meanwhile"
    return [f"note: {DOUBTFUL}: {why}: {', '.join(reasons)}"]


def retiming_notes(rows: list[Row]) -> list[str]:
    """Return a note with the command that repeats the doubtful times; [] if no row has any."""
    doubtful = [row for row in rows if row.timing_doubt is not None]
    if not doubtful:
        return []
    folders = shlex.join(str(run.path) for row in doubtful for run in row.run.seeds)
    return [f"note: to time them again, while nothing else runs: vlmprune time {folders}"]


def _names(rows: list[Row]) -> str:
    names = [f"{row.name} {row.run.amount}".strip() for row in rows]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def latency_lines(latency: Mapping[str, Any], pruned: bool) -> list[tuple[str, str]]:
    """Return prefill and end-to-end times as (name, text), and a warning if those of the prefill are not to be trusted.

    latency: `timings.latency` of result.json. pruned: False for a run of the unpruned model, which has no speed-up.
    """
    lines, spreads = [], list[float]()
    for part, title in (("prefill", "prefill"), ("end_to_end", "end to end")):
        ours, bare = latency["pruned"][part], latency["unpruned"][part]
        p90 = f" (p90 {ours['p90_ms']:.3g})" if "p90_ms" in ours else ""
        faster = bare["median_ms"] / ours["median_ms"] if pruned and ours["median_ms"] else None
        versus = "" if faster is None else f", unpruned {bare['median_ms']:.3g} ms: {faster:.2f}x"
        count = latency.get("samples", "?")
        lines.append((title, f"{ours['median_ms']:.3g} ms median{p90}{versus}  (batch 1, {count} questions)"))
        if part == "prefill":
            found = [spread_of(times["median_ms"], times.get("p90_ms")) for times in (ours, bare)]
            spreads = [each for each in found if each is not None]
    if spreads:
        warning = f"TIMES NOT TO BE TRUSTED: the p90 of prefill is {max(spreads):.1f}x the median"
        lines.append(("", f"{warning}; `vlmprune time` measures again on an idle machine"))
    return lines
