"""Finished runs as read back from their directories: result.json and config.yaml."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from vlmprune.errors import error_text
from vlmprune.files import read_bytes
from vlmprune.results.schema import Parts, Result
from vlmprune.results.text import format_amount, terminal_line
from vlmprune.typed_json import STRICT, check_data, is_syntax_error, read_json

if TYPE_CHECKING:
    from vlmprune.results.question_scores import Questions


LARGEST = 2**22  # bytes; a hundred times the longest that a sweep writes


@with_config(STRICT)
class Config(TypedDict):
    """The parts that reports read; each is a mapping of settings."""

    method: NotRequired[dict[str, Any]]
    model: NotRequired[dict[str, Any]]
    benchmark: NotRequired[dict[str, Any]]


def read_config(file: Path) -> dict[str, Any]:
    """Return a recorded config as plain data. Raise OSError, or ValueError with one line.

    Aliases are refused: vlmprune writes none, and a small file with aliases can expand beyond memory.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, if PyYAML has libyaml
    text = read_bytes(file, LARGEST)
    try:
        if b"*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise ValueError("it has aliases (*NAME), which no recorded config has")
        data = yaml.load(text, loader)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {error_text(error)}") from error
    return dict(check_data(data, Config))


FIRST_ENGINE = "1 (vlmprune 0.2 and older)"  # of results that do not name one


@dataclass(frozen=True)
class Run:
    """One finished run: the values of result.json that `compare` uses.

    settings: as typed. score: None until the answers are judged; low, high: its interval, None if there is none.
    flops, unpruned_flops: None if they cannot be counted. pruned_ms, unpruned_ms: median ms of each timed part, without
    parts that were not measured; pruned_p90_ms, unpruned_p90_ms: the 90th percentiles that are recorded.
    kv_cache_bytes, peak_memory_mb: None if not measured. timing_environment: `environment`, with what it was at the
    latest timing, which may be newer (`vlmprune time`). beyond: number of questions longer than the decoder's `limit`
    positions; longest: positions of the longest; all three None if unknown.
    finished: UTC date and time, '' if not on record.
    """

    path: Path
    settings: tuple[str, ...]
    model: str
    method: str
    benchmark: str
    ratio: float | None
    keep: int | None
    subset: dict[str, Any]
    comparable: dict[str, str]
    metric: str
    score: float | None
    low: float | None
    high: float | None
    samples: int
    total: float
    kept: float
    layer_averaged: float
    limit: int | None
    longest: int | None
    beyond: int | None
    flops: float | None
    unpruned_flops: float | None
    pruned_ms: dict[str, float]
    unpruned_ms: dict[str, float]
    pruned_p90_ms: dict[str, float]
    unpruned_p90_ms: dict[str, float]
    kv_cache_bytes: int | None
    peak_memory_mb: float | None
    environment: dict[str, Any]
    timing_environment: dict[str, Any]
    metrics: dict[str, float]
    finished: str

    @property
    def questions(self) -> Questions | None:
        """The score of every question; None if predictions.jsonl is missing, damaged or not judged."""
        return None if isinstance(self._questions, str) else self._questions

    @property
    def averaged_questions(self) -> Questions | None:
        """The questions of a run whose score is their mean; None for another metric (F1, MME's sums), whose difference
        is no mean over questions."""
        own = self.questions
        return (
            own if own is not None and self.score is not None and abs(own.scores.mean() - self.score) < 1e-9 else None
        )

    @property
    def seeds(self) -> tuple[Run, ...]:
        """The finished runs whose mean this is: itself alone, except in `vlmprune.results.seeds.SeedMean`."""
        return (self,)

    @property
    def score_sd(self) -> float | None:
        """Standard deviation of the score over `seeds`; None for one, and where there is no score."""
        return None

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml, {} if it cannot be read. It is untrusted input: check the types of its values."""
        return {} if isinstance(self._config, str) else self._config

    @property
    def faults(self) -> list[str]:
        """A line for each file beside result.json that exists and cannot be used."""
        return [
            terminal_line(f"{self.path}/{each}") for each in (self._questions, self._config) if isinstance(each, str)
        ]

    @cached_property
    def _questions(self) -> Questions | str | None:
        from vlmprune.results.question_scores import read_questions

        return read_questions(self.path / "predictions.jsonl")

    @cached_property
    def _config(self) -> dict[str, Any] | str:
        try:
            return read_config(self.path / "config.yaml")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            return f"config.yaml cannot be read ({error_text(error)}): its settings are not looked at"

    @property
    def key(self) -> tuple[str, ...]:
        """The key of the run's group: two runs may be compared if their keys are equal."""
        return (self.benchmark, self.model, *(f"{name}={value}" for name, value in sorted(self.comparable.items())))

    @property
    def reduction(self) -> float:
        """Fraction of visual tokens removed: the requested ratio, or else the measured fraction at the last layer."""
        if self.ratio is not None or not self.total:  # questions without a picture have nothing to remove
            return self.ratio or 0.0
        return 1 - self.kept / self.total

    @property
    def is_unpruned(self) -> bool:
        return self.method == "none"

    @property
    def is_blind(self) -> bool:
        """True if no visual token was kept, so that answers depend on the questions alone."""
        return self.kept == 0

    @property
    def amount(self) -> str:
        """The requested amount: '95 %', 'keep 64', 'default' for a published schedule, '' if unpruned."""
        return "" if self.is_unpruned else format_amount(self.ratio, self.keep)

    @property
    def kept_text(self) -> str:
        """Visual tokens in the last layer, of all: '58/576'."""
        return f"{self.kept:.4g}/{self.total:.4g}"


def read_run(path: Path) -> Run | str:
    """Return the finished run in directory `path`, or one line that says why there is none."""
    try:
        return build_run(path, read_json(path / "result.json", Result))
    except FileNotFoundError:
        done = count_lines(path, "predictions.jsonl")
        return f"not finished, {done} questions answered: the same `vlmprune run` resumes it"
    except OSError as error:
        return f"result.json cannot be read ({error_text(error)})"
    except ValueError as error:
        return (
            f"result.json {'cannot be read' if is_syntax_error(error) else 'is not as expected'} ({error_text(error)})"
        )


def build_run(path: Path, result: Result) -> Run:
    """Return the run in directory `path` with the content of its result.json."""
    answers, timings = result["answers"], result["timings"]
    latency, cache = timings["latency"], timings.get("kv_cache_bytes")
    low, high = answers["interval95"] or (None, None)
    tokens, flops, positions = answers["tokens"], answers["flops"], answers.get("positions")
    return Run(
        path,
        tuple(terminal_line(setting) for setting in result.get("settings", [])),
        terminal_line(result["model"]),
        terminal_line(result["method"]),
        terminal_line(result["benchmark"]),
        result["ratio"],
        result["keep"],
        dict(result["subset"]),
        comparable_of(result),
        terminal_line(answers["metric"]),
        answers["score"],
        low,
        high,
        answers["samples"],
        tokens["total"],
        tokens["kept"]["mean"],
        tokens["layer_averaged"],
        positions and positions["limit"],
        positions and positions["longest"],
        positions and positions["beyond"],
        flops and flops["total"],
        flops and flops["unpruned_total"],
        _times(latency and latency["pruned"], "median_ms"),
        _times(latency and latency["unpruned"], "median_ms"),
        _times(latency and latency["pruned"], "p90_ms"),
        _times(latency and latency["unpruned"], "p90_ms"),
        cache and cache["pruned"],
        timings.get("peak_memory_mb"),
        dict(result["environment"]),
        _timing_environment(result),
        answers.get("metrics", {}),
        result.get("finished", ""),
    )


def _timing_environment(result: Result) -> dict[str, Any]:
    latency: dict[str, Any] = dict(result["timings"]["latency"] or {})
    newer = dict(latency.get("conditions", {}))
    if "versions" in latency:
        newer["versions"] = latency["versions"]
    return {**result["environment"], **newer}


def comparable_of(result: Result | dict[str, Any]) -> dict[str, str]:
    """Everything in which two runs have to agree to be compared; results of older versions do not name the engine."""
    return {"engine": FIRST_ENGINE} | result["comparable"]


def _times(parts: Parts | None, name: str) -> dict[str, float]:
    """Return a time, such as median_ms, of each part that has it."""
    found: dict[str, Any] = {} if parts is None else dict(parts)
    return {part: found[part][name] for part in Parts.__annotations__ if found.get(part) and name in found[part]}


def find_unpruned_score(result: dict[str, Any], directory: Path) -> float | None:
    """Return the score of the unpruned run comparable with `result`, of the run in `directory`, or None."""
    if result["method"] == "none":
        return result["answers"]["score"]
    beside = find_comparable_runs(result, directory, "none-*")
    return beside[0].score if beside else None


def find_comparable_runs(result: dict[str, Any], directory: Path, names: str) -> list[Run]:
    """Return the finished runs beside `directory` that are comparable with its `result`. names: glob of directories."""
    runs = [read_run(path) for path in sorted(directory.parent.glob(names))]
    return [run for run in runs if isinstance(run, Run) and run.comparable == comparable_of(result)]


SHARES = "processes"  # subfolder of a run's directory, with a folder for each further process while it answers


def count_lines(directory: Path, *names: str) -> int:
    """Return the number of lines of these files of a run, which may be running: this only reads.

    A file that is not written yet, or cannot be read, has none; the run itself reports the latter.
    """
    count = 0
    for folder in (directory, *directory.glob(f"{SHARES}/*")):
        for name in names:
            with suppress(OSError):
                count += read_bytes(folder / name).count(b"\n")
    return count
