"""Names and texts in settings that could become code."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from tests.robustness.hostile.configs import CHOSEN, put, with_own
from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "code from data")

ROWS = [{"id": str(n), "image": "a.png", "question": "What?", "answer": "A", "choices": ["a", "b"]} for n in range(3)]
CHOICES = (
    "_target_: vlmprune.benchmarks.choices.{name}\npath: rows.jsonl\nmax_new_tokens: 4\n"
    "columns: {{id: id, image: image, question: question, answer: answer, choices: choices}}\n"
)
OWN = with_own("run", "benchmark=mine", "method=none", "limit=2")
MULTIPLE = "vlmprune.benchmarks.choices.MultipleChoice"
SUBMISSIONS = {
    "os.system": "os.system",
    "subprocess.call": "subprocess.call",
    "builtins.print": "builtins.print",
    "builtins.exec": "builtins.exec",
    "antigravity": "antigravity.fly",
    "this": "this.s",
    "a class": "pathlib.Path",
    "json.dumps": "json.dumps",
    "a private function": "vlmprune.benchmarks.submission._json",
    "a module that it imports": "vlmprune.benchmarks.submission.json.dumps",
    "a type beside the formats": "vlmprune.benchmarks.submission.Rows",
    "another function of vlmprune": "vlmprune.benchmarks.submission._workbook",
    "a user's module that no class is of": "evil.hack",
    "no module": "vqav2x",
    "nothing": "''",
    "a dot": "'.'",
    "dots": "'..submission.vqav2'",
    "a number": "3",
    "a list": "[os.system]",
    "control characters": '"os\\0.system"',
    "a long name": "a." * 4000 + "b",
}
FORMATS = {
    "an attribute": "{choice.__class__}",
    "an attribute of nothing": "{0.__class__}",
    "an index": "{choice[0]}",
    "a width": "{choice:999999999}",
    "a nested width": "{choice:{letter}}",
    "a conversion": "{choice!r}",
    "an unknown field": "{nothing}{choice}",
    "a number": "{0}",
    "no name": "{}",
    "an open brace": "{choice",
    "a closing brace": "choice}",
    "a conversion of nothing": "{choice!}",
    "a dunder": "{choice.__init__.__globals__}",
    "nested braces": "{" * 2000 + "}" * 2000,
}
TARGETS = {
    "a function": "os.system",
    "a base class": "vlmprune.{base}",
    "a class of another group": "vlmprune.benchmarks.scenes.Scenes",
    "a builtin": "builtins.object",
    "a type": "builtins.type",
    "a subprocess": "subprocess.Popen",
    "hydra's own": "hydra.utils.instantiate",
    "a nested class": "vlmprune.methods.cls.ClsAttention.keep_order",
    "a module": "vlmprune.methods.cls",
    "relative": ".cls.ClsAttention",
    "the main module": "__main__.main",
}
BASES = {
    "method": "methods.base.Method",
    "logger": "loggers.base.Logger",
    "launcher": "launchers.base.Launcher",
    "benchmark": "benchmarks.base.Benchmark",
}
MODEL_TYPES = ("base", "checks", "inputs", "loading", "__init__", "../tiny/model", ".base", "llava.adapt", "os")
MODEL_TYPES += ("llava\0", "", "LLAVA", "llava ", "parts.os")


def written(group: str, content: str) -> Callable[[Path], None]:
    """own/GROUP/mine.yaml, rows of data, and a module beside the folder that leaves a mark when it is imported."""

    def prepare(folder: Path) -> None:
        put(folder / "own" / group / "mine.yaml", content)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        Image.new("RGB", (32, 24), "red").save(folder / "a.png")
        (folder / "evil.py").write_text("raise SystemExit('a module was imported that nobody asked for')\n")

    return prepare


def choices(lines: str, family: str = "MultipleChoice") -> Callable[[Path], None]:
    """own/benchmark/mine.yaml of a multiple choice with these lines."""
    return written("benchmark", CHOICES.format(name=family) + lines)


def checkpoint(model_type: str) -> Callable[[Path], None]:
    """A folder with a config.json of this family."""

    config = {"model_type": model_type, "vision_config": {}, "text_config": {}, "auto_map": {"AutoConfig": "x.Y"}}
    return lambda folder: put(folder / "checkpoint" / "config.json", json.dumps(config))


def _recorded(target: str, **settings: object) -> Callable[[Path], None]:
    """A run directory that someone sent."""

    def prepare(folder: Path) -> None:
        config = {"benchmark": {"_target_": target, "max_new_tokens": 4} | settings}
        put(folder / "run" / "config.yaml", json.dumps(config))
        row = {"id": "1", "image_id": "1", "question": "Q", "answer": "A", "category": "", "prediction": "A"}
        line = row | {"extra": {"choices": ["a", "b"]}}
        (folder / "run" / "predictions.jsonl").write_text(json.dumps(line) + "\n")
        (folder / "evil.py").write_text("raise SystemExit('a module was imported that nobody asked for')\n")

    return prepare


CASES = [
    *(
        case(f"submission: {name}", OWN, ("submission",), choices(f"submission: {value}\n"))
        for name, value in SUBMISSIONS.items()
    ),
    *(
        case(
            f"submission typed: {value}",
            ("run", "benchmark=vqav2", "method=none", "benchmark.path=rows.jsonl", f"benchmark.submission={value}"),
            ("submission",),
            written("benchmark", "a: 1\n"),
        )
        for value in ("os.system", "evil.hack", "builtins.eval", "vlmprune.cli.main")
    ),
    *(
        case(f"{setting}: {name}", OWN, (setting,), choices(f"{setting}: '{text.replace('choice', field)}'\n", family))
        for setting, family, field in (("option", "MultipleChoice", "choice"), ("hint", "HintedChoice", "hint"))
        for name, text in FORMATS.items()
    ),
    *(
        case(f"score: option: {name}", ("score", "run"), ("option",), _recorded(MULTIPLE, option=text))
        for name, text in list(FORMATS.items())[:4]
    ),
    *(
        case(
            f"{group}: {name}",
            with_own(*CHOSEN[group]),
            ("_target_",),
            written(group, f"_target_: {target.format(base=BASES[group])}\n"),
            quick=group == "launcher" and name in ("a function", "relative"),
        )
        for group in BASES
        for name, target in TARGETS.items()
        if not (group == "benchmark" and name == "a class of another group")
    ),
    *(
        case(f"score: {target}", ("score", "run"), ("_target_",), _recorded(target))
        for target in ("evil.Class", "os.system", f"vlmprune.{BASES['benchmark']}", "vlmprune.methods.cls.ClsAttention")
    ),
    case(
        "score: submission of evil.hack", ("score", "run"), ("submission",), _recorded(MULTIPLE, submission="evil.hack")
    ),
    *(
        case(
            f"model_type: {model_type!r}",
            ("run", "model=path", "model.path=checkpoint", "method=none"),
            ("model.path=checkpoint",),
            checkpoint(model_type),
        )
        for model_type in MODEL_TYPES
    ),
]
