"""Published figures (published.csv), the runs that measure the same thing, and both beside each other.

docs/published.md explains its columns and its cautions.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from vlmprune.config.registry import DESCRIPTION, read_choice
from vlmprune.errors import UserError
from vlmprune.results.find import group_runs
from vlmprune.results.notes import title
from vlmprune.results.runs import Run
from vlmprune.results.tables import Column, Report, Table, column_legend
from vlmprune.results.text import format_percent, terminal_line

# Metrics of result.json that are also published, with the factor from our value to the published scale.
POINTS = ("perception", "cognition", "total", "ocrbench", "rating")
PERCENT = ("accuracy", "vqa_accuracy", "relaxed_accuracy", "anls", "f1", "cider", "score", "relative_score")
PRINTED = dict.fromkeys(POINTS, 1.0) | dict.fromkeys(PERCENT, 100.0)
# Numbers of questions in the files that LLaVA's scripts, and later FasterVLM's and others', read, if the hub's differ:
# mmbench_dev_20230712.tsv, and POPE at commit e3e3926 with 2,910 random ones.
QUESTIONS = {"mmbench": 4377, "pope": 8910}
SCHEDULES = {"method.retain", "method.layer_ratio"}  # settings that replace a ratio


@dataclass(frozen=True)
class PublishedFigure:
    """One line of published.csv; the fields are its columns. ratio, tokens: None if unknown."""

    source: str
    table: str
    model: str
    method: str
    variant: str
    ratio: float | None
    tokens: int | None
    benchmark: str
    metric: str
    value: float
    our_model: str
    our_method: str
    our_settings: str
    our_benchmark: str
    protocol: str
    caution: str

    @property
    def table_key(self) -> tuple[str, ...]:
        """The key that a figure shares with the unpruned figure of its table."""
        return (self.source, self.table, self.model, self.benchmark, self.metric)

    @property
    def key(self) -> tuple[object, ...]:
        """A unique key of the line."""
        return (*self.table_key, self.method, self.variant, self.ratio, self.tokens)

    @property
    def short_source(self) -> str:
        """The short source: repository and file name."""
        repository, _, file = self.source.partition(": ")
        return f"{repository.split()[0]} {file.split(' (')[0].rsplit('/', 1)[-1]}"

    @property
    def settings(self) -> dict[str, str]:
        """Settings, beside model, method and benchmark, of the matching run: 'method.k' -> '2'."""
        return dict(setting.split("=", 1) for setting in self.our_settings.split())

    @property
    def has_schedule(self) -> bool:
        """True if a setting of the method, and not a ratio, determines the number of kept tokens."""
        return bool(SCHEDULES & self.settings.keys())

    @property
    def comparable(self) -> bool:
        """True if a run of ours can be compared with it: model, method, benchmark, metric and budget are known."""
        ours = self.our_model and self.our_method and self.our_benchmark
        known = self.ratio is not None or self.tokens is not None or self.has_schedule
        return bool(ours) and known and self.metric in PRINTED

    @property
    def questions(self) -> int | None:
        """The number of questions behind the figure if the hub's dataset has another number, else None."""
        return QUESTIONS.get(self.our_benchmark)

    @property
    def command(self) -> str:
        """The command that makes the matching run."""
        words = [f"model={self.our_model}", f"benchmark={self.our_benchmark}", f"method={self.our_method}"]
        if self.our_method != "none" and not self.has_schedule:
            words.append(f"keep={self.tokens}" if self.ratio is None else f"ratio={self.ratio:g}")
        return " ".join(["vlmprune run", *words, *self.our_settings.split()])


def read_published() -> list[PublishedFigure]:
    """Read all lines of published.csv."""
    with (files("vlmprune.results") / "published.csv").open(encoding="utf-8") as lines:
        return [_published(line) for line in csv.DictReader(lines)]


def _published(line: dict[str, str]) -> PublishedFigure:
    numbers = {
        "ratio": float(line["ratio"]) if line["ratio"] else None,
        "tokens": int(line["tokens"]) if line["tokens"] else None,
        "value": float(line["value"]),
    }
    return PublishedFigure(**{**line, **numbers})  # type: ignore[arg-type]  # the header names the fields


SAME_RATIO, SAME_TOKENS = 0.0005, 0.5  # largest differences that count as equal; the csv's ratios have four digits
# Settings that a matching run must leave at the values of its choice's YAML, unless the csv gives another value: of a
# method all, of a benchmark these, of a model all but UNCHECKED.
CHECKED = {"benchmark": ("split", "prefix", "suffix", "ocr", "num_frames")}
UNCHECKED = {"model": ("path", "revision", "dtype", "attention", "device_map")}
COUNTING = ("positions", "scope", "budget")  # must be "published" unless the csv gives another value


@dataclass(frozen=True)
class FigurePair:
    """A published figure and a run of ours on the published scale: percent, or MME's points.

    low, high: our 95 % interval, None if unknown. relative: score as a fraction of our unpruned run's;
    published_relative: as a fraction of the unpruned row's of the same table; None without that run or row.
    """

    published: PublishedFigure
    run: Run
    ours: float
    low: float | None
    high: float | None
    relative: float | None
    published_relative: float | None

    @property
    def difference(self) -> float:
        """Our figure minus the published one."""
        return self.ours - self.published.value

    @property
    def outside(self) -> bool:
        """True if the published figure is outside our interval."""
        return self.low is not None and self.high is not None and not self.low <= self.published.value <= self.high

    @property
    def name(self) -> str:
        """The published name of the method with its variant, and ours; 'unpruned' or 'blind' for these."""
        run, line = self.run, self.published
        name = "unpruned" if run.is_unpruned else "blind" if run.is_blind else f"{line.method} ({run.method})"
        return f"{name} {line.variant}".strip()

    @property
    def ours_text(self) -> str:
        """Our figure with its interval."""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.ours:.2f}{interval}"

    @property
    def notes(self) -> list[str]:
        """Differences between the two runs that a reader has to know."""
        run, line = self.run, self.published
        notes = [note for note in (line.caution, line.protocol) if note]
        if run.beyond:
            notes.append(f"ours: {run.beyond:,} questions are longer than the decoder's {run.limit:,} positions")
        if run.comparable.get("subset", "all") != "all":
            notes.append(f"ours: {run.samples:,} questions alone ({run.comparable['subset']})")
        elif line.questions is not None and line.questions != run.samples:
            notes.append(f"published of {line.questions:,} questions, ours of {run.samples:,}: see docs/published.md")
        return notes


def find_pairs(
    shown: list[Run], runs: list[Run], published: list[PublishedFigure]
) -> tuple[list[FigurePair], dict[Path, str]]:
    """Return all pairs of a run in `shown` and a matching figure; unpruned runs are looked up in all `runs`.

    The second value has the runs without a pair that only settings keep from matching: directory -> those settings.
    """
    lines: dict[tuple[str, str, str], list[PublishedFigure]] = defaultdict(list)
    for line in published:
        if line.comparable:
            lines[line.our_model, line.our_benchmark, "blind" if line.tokens == 0 else line.our_method].append(line)
    bare = {line.table_key: line.value for line in published if line.our_method == "none"}
    pairs: list[FigurePair] = []
    unlike: dict[Path, str] = {}
    for group in group_runs(runs):
        unpruned = next((run.metrics for run in group if run.is_unpruned), {})
        for run in (run for run in group if run in shown):
            metrics, config = run.metrics, run.config
            candidates = [
                (line, differing_settings(config, line))
                for line in lines[run.model, run.benchmark, "blind" if run.is_blind else run.method]
                if line.metric in metrics and _same_budget(run, line)
            ]
            found = [line for line, differing in candidates if not differing]
            pairs += [_pair(run, line, metrics, unpruned, bare.get(line.table_key)) for line in found]
            if candidates and not found:
                unlike[run.path] = min((differing for _, differing in candidates), key=lambda text: text.count("="))
    return pairs, unlike


def _pair(
    run: Run,
    line: PublishedFigure,
    metrics: dict[str, float],
    unpruned: dict[str, float],
    published_unpruned: float | None,
) -> FigurePair:
    ours = metrics[line.metric] * PRINTED[line.metric]
    # The interval is that of the main score, a fraction of its maximum.
    scale = ours / run.score if line.metric == run.metric and run.score else None
    return FigurePair(
        line,
        run,
        ours,
        None if scale is None or run.low is None else run.low * scale,
        None if scale is None or run.high is None else run.high * scale,
        metrics[line.metric] / unpruned[line.metric] if unpruned.get(line.metric) else None,
        line.value / published_unpruned if published_unpruned else None,
    )


def _same_budget(run: Run, line: PublishedFigure) -> bool:
    """Return True if both have the same budget: by ratio if both have one, else by number of tokens."""
    if run.is_unpruned or run.is_blind:
        return True
    if run.ratio is None and run.keep is None and line.has_schedule:
        return True  # the settings determine it, and they must agree
    if run.ratio is not None and line.ratio is not None:
        return abs(run.ratio - line.ratio) < SAME_RATIO
    reached = run.layer_averaged if line.settings.get("budget") == "average" else run.kept
    return line.tokens is not None and abs(reached - line.tokens) <= SAME_TOKENS


def differing_settings(config: dict[str, Any], line: PublishedFigure) -> str:
    """Return the settings in which a run with this config.yaml differs from `line`; '' if there are none.

    A run that does not record a setting is older than the setting and counts as having the YAML's value.
    """
    wanted: dict[str, Any] = {key: "published" for key in COUNTING if key in config}
    for group, name in (("model", line.our_model), ("benchmark", line.our_benchmark), ("method", line.our_method)):
        choice, own = _choice(group, name), _group(config, group)
        wanted |= {f"{group}.{key}": choice.get(key) for key in CHECKED.get(group, tuple(choice)) if key in own}
    wanted |= line.settings
    pairs = {key: (_plain(_value(config, key)), _plain(value)) for key, value in wanted.items()}
    return ", ".join(f"{key}={own} (published: {other})" for key, (own, other) in pairs.items() if own != other)


@cache
def _choice(group: str, name: str) -> dict[str, Any]:
    left_out = DESCRIPTION.union(UNCHECKED.get(group, ()))
    return {key: value for key, value in read_choice(group, name).items() if key not in left_out}


def _value(config: dict[str, Any], key: str) -> Any:
    group, dot, name = key.partition(".")
    return _group(config, group).get(name) if dot else config.get(group)


def _group(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a group's part of config.yaml, an untrusted file; {} if that is no mapping."""
    group = config.get(name)
    return group if isinstance(group, dict) else {}


def _plain(value: Any) -> str:
    """Return a setting's value as one line of text, equal for a number from YAML and its text from the csv."""
    return " ".join((value if isinstance(value, str) else json.dumps(value)).split())


COLUMNS: tuple[Column[FigurePair], ...] = (
    Column("method", lambda pair: pair.name, left=True),
    Column("ratio", lambda pair: pair.run.amount),
    Column("ours [95 %]", lambda pair: pair.ours_text),
    Column("published", lambda pair: f"{pair.published.value:g}"),
    Column(
        "difference",
        lambda pair: f"{pair.difference:+.2f}{'*' if pair.outside else ''}",
        "ours minus published, * where the published figure is outside our 95 % interval over images",
    ),
    Column("relative", lambda pair: format_percent(pair.relative), "ours of the unpruned run here", droppable=1),
    Column(
        "published rel.",
        lambda pair: format_percent(pair.published_relative),
        "theirs of the unpruned row of the same table",
        droppable=2,
    ),
    Column("source", lambda pair: pair.published.short_source, left=True, droppable=3),
)
CAUTION = ("caution", "a figure not to rely on, for the reason below")
CAPTION = "*: the published figure is outside our 95 % interval over images; relative: of the own unpruned row"


def show_published(shown: list[Run], runs: list[Run], style: str) -> None:
    """Print the published figures that match the runs `shown`; unpruned runs are looked up in all `runs`.

    There is one table per group of comparable runs and metric. Raise UserError, which says what to run, if no figure
    matches.
    """
    published = read_published()
    pairs, unlike = find_pairs(shown, runs, published)
    differing = [terminal_line(f"{path}: not compared, {settings}") for path, settings in unlike.items()]
    missing = _missing(shown, pairs, published)
    if not pairs:
        raise UserError(
            "; ".join([f"none of these runs ({len(shown)}) is of a published figure", *differing[:1], missing])
        )
    notes = [*differing, missing] if missing else differing
    groups: dict[tuple[str, ...], list[FigurePair]] = defaultdict(list)
    for pair in pairs:
        groups[*pair.run.key, pair.published.metric].append(pair)
    texts = dict.fromkeys(text for group in groups.values() for pair in group for text in pair.notes)
    marks = {text: f"[{number}]" for number, text in enumerate(texts, 1)}
    records = [pair_fields(pair) for pair in pairs]
    Report(
        [pairs_table(group, marks) for group in groups.values()],
        legend=[*column_legend(COLUMNS), CAUTION, *((mark, text) for text, mark in marks.items())],
        records=records,
        data={"pairs": records, "notes": notes},
        notes=notes,
        separator="\n\n",
    ).print(style)


def pairs_table(pairs: list[FigurePair], marks: dict[str, str]) -> Table[FigurePair]:
    """Return the table of one group. marks: the number of every note, as printed."""
    run, metric = pairs[0].run, pairs[0].published.metric

    def cell(pair: FigurePair) -> str:
        return f"{'caution ' if pair.published.caution else ''}{''.join(marks[text] for text in pair.notes)}"

    used = {text for pair in pairs for text in pair.notes}
    return Table(
        title(run).replace(f" · {run.metric} · ", f" · {metric} · "),
        [*COLUMNS, Column("notes", cell, left=True)],
        pairs,
        caption="; ".join([CAPTION, *(f"{mark} {text}" for text, mark in marks.items() if text in used)]),
    )


def pair_fields(pair: FigurePair) -> dict[str, Any]:
    """Return a pair as plain data: figures on the published scale, relative scores as fractions, None if unknown."""
    run, line = pair.run, pair.published
    return {
        "model": run.model,
        "benchmark": run.benchmark,
        "method": run.method,
        "ratio": run.ratio,
        "keep": run.keep,
        "tokens_kept": run.kept,
        "metric": line.metric,
        "ours": pair.ours,
        "ours_low": pair.low,
        "ours_high": pair.high,
        "published": line.value,
        "difference": pair.difference,
        "relative": pair.relative,
        "published_relative": pair.published_relative,
        "source": line.source,
        "table": line.table,
        "published_method": line.method,
        "published_variant": line.variant,
        "published_tokens": line.tokens,
        "protocol": line.protocol,
        "caution": line.caution,
        "subset": run.comparable.get("subset", "all"),
        "questions": run.samples,
        "published_questions": line.questions,
        "path": str(run.path),
    }


def _missing(shown: list[Run], pairs: list[FigurePair], published: list[PublishedFigure]) -> str:
    """Return a line with the number of comparable figures without a run, and the command of the nearest, or ''."""
    paired = {pair.published.key for pair in pairs}
    open_ones = [line for line in published if line.comparable and not line.caution and line.key not in paired]
    if not open_ones:
        return ""
    models, benchmarks = {run.model for run in shown}, {run.benchmark for run in shown}
    methods, ratios = {run.method for run in shown} - {"none"}, {run.ratio for run in shown} - {None}

    def nearness(line: PublishedFigure) -> tuple[bool, ...]:
        wanted = (line.our_model in models, line.our_benchmark in benchmarks)
        return (*wanted, line.our_method in methods, line.ratio in ratios)

    return f"{len(open_ones)} published figures have no run here; the next: {max(open_ones, key=nearness).command}"
