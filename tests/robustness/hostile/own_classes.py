"""Classes of a user's own that break the contract of their base class, each a small module beside a config folder."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent, indent

from tests.robustness.hostile.table import Hostile

RUN = ("run", "--config-dir", "configs", "limit=2", "latency_samples=0", "show.samples=0")
QUIET = (*RUN, "logger=none")
_numbers = count(1)

METHODS = """\
import sys
from dataclasses import dataclass, field
from typing import ClassVar
import numpy
import torch
from vlmprune.methods.base import Method, ScoreMethod, SequenceMethod, Signals
from vlmprune.methods.cls import ClsAttention
from vlmprune.methods.decoder_method import DecoderMethod, DecoderSelection, DecoderStage
from vlmprune.methods.fastv import FastV
from vlmprune.methods.merging import Matching
from vlmprune.methods.base import Selection
from vlmprune.methods.tome import ToMe
from vlmprune.methods.encoder_method import VisionMethod
"""

SCORED = """\
@dataclass
class Own(ScoreMethod):
    needs: ClassVar = ("features",)
    def score(self, signals):
        return self.norm(signals)
    def norm(self, signals):
        return signals.features.norm(dim=-1)
"""

SELECTED = """\
@dataclass
class Own(SequenceMethod):
    needs: ClassVar = ("features",)
    def select(self, signals, k):
        return Selection(self.first(signals, k))
    def first(self, signals, k):
        return torch.arange(k).expand(signals.images, k).contiguous()
"""

INSIDE = """\
@dataclass
class Own(DecoderMethod):
    def schedule(self, depth, n):
        return [DecoderStage(2, self.count(n))]
    def score(self, signals):
        return signals.attention.mean(dim=1)[:, -1]
    def half(self, signals, stages):
        return signals.visual & (signals.visual.cumsum(dim=1) <= stages[0].kept)
"""

MERGED = """\
@dataclass
class Own(ToMe):
    pass
"""

FIRST = "self.first(signals, k)"

BENCHMARK = """\
import sys
from dataclasses import dataclass, field
from typing import ClassVar
import numpy
import torch
from PIL import Image
from vlmprune.benchmarks.base import BadSample, Benchmark, Sample
from vlmprune.benchmarks.base import Metric

@dataclass
class Own(Benchmark):
    max_new_tokens: int = 2
    def load(self, part=False):
        return [Sample(f"s{i}", f"i{i}", "What is this?", "red", "all") for i in range(3)]
    def images(self, sample):
        return [Image.new("RGB", (56, 56), "red")]
    def identity(self):
        return "own data"
    def match(self, prediction, sample):
        return 1.0
"""

LOGGER = """\
import sys
from dataclasses import dataclass, field
from vlmprune.loggers.base import Logger

@dataclass
class Own(Logger):
    pass
"""

LAUNCHER = """\
import sys
from dataclasses import dataclass, field
from vlmprune.launchers.base import Launcher, Outcome, Worker, WorkerLauncher

@dataclass
class Own(Launcher):
    def run(self, tasks, watch):
        for task in tasks:
            watch.started(task.number)
            watch.ended(task.number, Outcome("done", score=0.5))
"""

INFO = {
    "method": "title: own",
    "benchmark": "{title: own, task: own, size: 3 questions, metric: accuracy, hub: none, needs_judge: false}",
    "logger": "title: own",
    "launcher": "title: own",
}


def module(group: str, name: str, source: str, yaml: str) -> Callable[[Path], None]:
    """Write the module `name` and a choice `own` of `group` whose class it has."""

    def write(folder: Path) -> None:
        (folder / f"{name}.py").write_text(source)
        (folder / "configs" / group).mkdir(parents=True)
        info = INFO[group] if INFO[group].startswith("{") else "{" + INFO[group] + "}"
        text = f"_target_: {name}.Own\ninfo: {info}\n{yaml}"
        (folder / "configs" / group / "own.yaml").write_text(text)

    return write


def own(
    group: str,
    template: str,
    name: str,
    body: str,
    *named: str,
    typed: tuple[str, ...] = (),
    yaml: str = "",
    code: int = 2,
    quick: bool = False,
    whole: bool = False,
) -> Hostile:
    """A case whose class is `template` with `body` in it, or after it where `whole`."""
    lines = dedent(body).strip("\n") + "\n"
    source = template + (lines if whole else indent(lines, "    "))
    arguments = {
        "method": (*QUIET, "benchmark=scenes", "method=own", *(typed or ("ratio=0.5",))),
        "benchmark": (*QUIET, "benchmark=own", "method=none", *typed),
        "logger": (*RUN, "benchmark=scenes", "method=none", "logger=own", *typed),
        "launcher": ("sweep", *QUIET[1:], "benchmark=scenes", "method=none", "baselines=false", "launcher=own", *typed),
    }[group]
    prepare = module(group, f"own_class_{next(_numbers)}", source, yaml)
    return Hostile("own classes", f"{group}: {name}", arguments, named, prepare, code, quick)


def method(template: str, name: str, body: str, *named: str, **options) -> Hostile:
    return own("method", METHODS + template, name, body, *named, **options)


def benchmark(name: str, body: str, *named: str, **options) -> Hostile:
    return own("benchmark", BENCHMARK, name, body, *named, **options)


def returns(function: str, value: str) -> str:
    """The source of a method of a class, `function` with its arguments, that returns `value`."""
    return f"def {function}:\n    return {value}\n"


SCORE = "score(self, signals)"
SCORES = [
    method(SCORED, f"score is {what}", returns(SCORE, value), "Own.score", *named)
    for what, value, *named in [
        ("nothing", "None", "None"),
        ("a list", "self.norm(signals).tolist()", "list"),
        ("numpy", "self.norm(signals).numpy()", "ndarray"),
        ("a number", "0.5", "0.5"),
        ("text", "'high'", "high"),
        ("a tuple", "(self.norm(signals),)", "tuple"),
        ("a Selection", "Selection(signals.features)", "Selection"),
        ("transposed", "self.norm(signals).T", "[B, N]"),
        ("flat", "self.norm(signals).flatten()", "[B, N]"),
        ("one too many", "torch.nn.functional.pad(self.norm(signals), (0, 1))", "[B, N]"),
        ("the features", "signals.features", "[B, N]"),
        ("of no token", "signals.features[:, :0, 0]", "[B, N]"),
        ("a scalar", "self.norm(signals).sum()", "[B, N]"),
        ("complex", "self.norm(signals) + 1j", "complex64"),
        ("on meta", "self.norm(signals).to('meta')", "meta"),
        ("sparse", "self.norm(signals).to_sparse()", "sparse"),
        ("nan", "self.norm(signals) * torch.nan", "nan"),
        ("one nan", "self.norm(signals).index_fill(1, torch.tensor([3]), torch.nan)", "nan"),
    ]
]

SELECT = "select(self, signals, k)"
SELECTIONS = [
    method(SELECTED, f"select returns {what}", returns(SELECT, value), "Own.select", *named)
    for what, value, *named in [
        ("nothing", "None", "None", "Selection"),
        ("indices", "self.first(signals, k)", "Tensor", "Selection"),
        ("a pair", "self.first(signals, k), None", "tuple", "Selection"),
        ("a list of indices", "Selection(list(range(k)))", "indices", "list"),
        ("numpy", "Selection(self.first(signals, k).numpy())", "indices", "ndarray"),
        ("floats", "Selection(self.first(signals, k).float())", "indices", "float32"),
        ("a mask", "Selection(self.first(signals, k).bool())", "indices", "bool"),
        ("one dimension", "Selection(torch.arange(k))", "indices", "[B, k]"),
        ("three dimensions", "Selection(self.first(signals, k)[..., None])", "indices", "[B, k]"),
        ("too few", "Selection(self.first(signals, k - 1))", "indices", "[B, k]"),
        ("too many", "Selection(self.first(signals, k + 1))", "indices", "[B, k]"),
        ("none", "Selection(self.first(signals, 0))", "indices", "[B, k]"),
        ("of another batch", "Selection(self.first(signals, k)[:1])", "indices", "[B, k]"),
        ("indices out of range", "Selection(self.first(signals, k) + 1000)", "indices", "1000"),
        ("N itself", "Selection(self.first(signals, k) + signals.tokens - k + 1)", "indices"),
        ("negative indices", "Selection(self.first(signals, k) - 1)", "indices", "-1"),
        ("an index twice", "Selection(self.first(signals, k) // 2)", "indices", "twice"),
        ("on meta", "Selection(self.first(signals, k).to('meta'))", "indices", "meta"),
        ("features of another width", "Selection(self.first(signals, k), signals.features[:, :k, :5])", "features"),
        ("features of another rank", "Selection(self.first(signals, k), signals.features[0, :k])", "features"),
        ("features of another count", "Selection(self.first(signals, k), signals.features)", "features"),
        ("features of integers", "Selection(self.first(signals, k), signals.features[:, :k].int())", "features"),
        ("features of bool", "Selection(self.first(signals, k), signals.features[:, :k] > 0)", "features"),
        ("features of nan", "Selection(self.first(signals, k), signals.features[:, :k] * torch.nan)", "features"),
        ("features of infinity", "Selection(self.first(signals, k), signals.features[:, :k] / 0)", "features"),
        ("features in numpy", "Selection(self.first(signals, k), signals.features[:, :k].numpy())", "features"),
        ("valid of floats", "Selection(self.first(signals, k), valid=torch.ones(signals.images, k))", "valid"),
        ("valid of one image", "Selection(self.first(signals, k), valid=torch.ones(k, dtype=torch.bool))", "valid"),
        ("valid as a list", "Selection(self.first(signals, k), valid=[True] * k)", "valid"),
        ("unsound as a list", "Selection(self.first(signals, k), unsound=[False])", "unsound"),
        ("unsound of tokens", "Selection(self.first(signals, k), unsound=self.first(signals, k) < 0)", "unsound"),
        ("scores of kept tokens", "Selection(self.first(signals, k), scores=signals.features[:, :k, 0])", "scores"),
    ]
] + [
    method(
        SELECTED, f"blocks are {what}", returns(SELECT, f"Selection(self.first(signals, k), blocks={value})"), *named
    )
    for what, value, *named in [
        ("too few", "(0,)", "Own.select", "blocks"),
        ("a number", "3", "Own.select", "blocks"),
        ("a tensor", "self.first(signals, k)", "Own.select", "blocks"),
    ]
]

PLANNED = (
    [
        method(SCORED, f"needs are {what}", f"needs: ClassVar = {value}", *named, quick=quick)
        for what, value, quick, *named in [
            ("text", "'features'", False, "Own.needs", "'features'"),
            ("unknown", "('feature',)", False, "Own", "feature", "did you mean"),
            ("a list of numbers", "[1]", False, "Own.needs", "1"),
            ("nothing", "None", False, "Own.needs", "None"),
            ("a set", "{'features'}", False, "Own.needs", "set"),
            ("of the decoder", "('decoder_attention',)", False, "Own.needs", "decoder_attention"),
        ]
    ]
    + [
        method(SCORED, name, body, *named, **options)
        for name, body, named, options in [
            ("a stage that there is not", "stage: ClassVar = 'middle'", ("Own.stage", "middle"), {"quick": True}),
            ("a stage of another kind", "stage: ClassVar = 'decoder'", ("Own.stage", "decoder"), {}),
            (
                "published_positions",
                "published_positions: ClassVar = 'random'",
                ("Own.published_positions", "random"),
                {},
            ),
            ("published_scope", "published_scope: ClassVar = 'word'", ("Own.published_scope", "word"), {}),
            ("merges", "merges: ClassVar = 'yes'", ("Own.merges", "yes"), {}),
            ("layers are negative", returns("layers(self, tower)", "(-1,)"), ("Own.layers", "-1"), {}),
            ("layers are too deep", returns("layers(self, tower)", "(99,)"), ("Own.layers", "99"), {}),
            ("layers are floats", returns("layers(self, tower)", "(1.0,)"), ("Own.layers", "1.0"), {}),
            ("layers are a number", returns("layers(self, tower)", "1"), ("Own.layers", "1"), {}),
            ("layers are nothing", returns("layers(self, tower)", "None"), ("Own.layers", "None"), {}),
            ("no layer", returns("layers(self, tower)", "()"), ("Own.layers", "()"), {}),
            ("a layer twice", returns("layers(self, tower)", "(1, 1)"), ("Own.layers", "(1, 1)"), {}),
            ("count is a float", returns("count(self, n)", "n / 2"), ("Own.count", "float"), {"quick": True}),
            ("count is negative", returns("count(self, n)", "-3"), ("Own.count", "-3"), {}),
            ("count is too large", returns("count(self, n)", "n + 1"), ("Own.count", "0 to"), {}),
            ("count is nothing", returns("count(self, n)", "None"), ("Own.count", "None"), {}),
            ("shares are a number", returns("shares(self, units)", "3"), ("Own.shares", "3"), {}),
            ("shares of too few", returns("shares(self, units)", "[]"), ("Own.shares", "[]"), {}),
            ("shares are floats", returns("shares(self, units)", "[n / 2 for n in units]"), ("Own.shares",), {}),
            ("shares are negative", returns("shares(self, units)", "[-1 for n in units]"), ("Own.shares", "-1"), {}),
            ("parts are nothing", returns("parts(self, n)", "None"), ("Own.parts", "None"), {}),
            ("parts are names", returns("parts(self, n)", "('cls',)"), ("Own.parts", "cls"), {}),
            ("parts are none", returns("parts(self, n)", "()"), ("Own.parts", "()"), {}),
            ("keeps_all is nothing", returns("keeps_all(self, n)", "None"), ("Own.keeps_all", "None"), {}),
            ("check returns a text", returns("check(self, tower, depth)", "'no'"), ("Own.check", "no"), {}),
            (
                "macs are text",
                returns("selection_macs(self, n, k, widths)", "'many'"),
                ("Own.selection_macs", "many"),
                {},
            ),
            (
                "macs are negative",
                returns("selection_macs(self, n, k, widths)", "-1"),
                ("Own.selection_macs", "-1"),
                {},
            ),
            (
                "macs are nan",
                returns("selection_macs(self, n, k, widths)", "float('nan')"),
                ("Own.selection_macs",),
                {},
            ),
            (
                "reads_question is text",
                "reads_question = property(lambda self: 'no')",
                ("Own.reads_question", "no"),
                {},
            ),
            ("position_rule", "position_rule = property(lambda self: 'gap')", ("Own.position_rule", "gap"), {}),
            (
                "a setting that its class refuses",
                "power: int = 0\ndef __post_init__(self):\n    raise ValueError('power must be 1')",
                ("power must be 1",),
                {"quick": True},
            ),
            ("a setting of an unknown type", "power: 'Power' = 1", ("Own", "Power"), {}),
            ("a constructor of its own", "def __init__(self, power):\n    self.power = power", ("Own", "__init__"), {}),
            ("mutable defaults", "power: list = []", ("Own", "default_factory"), {}),
        ]
    ]
    + [
        own("method", METHODS, name, body, *named, quick=quick, whole=True, yaml=yaml)
        for name, body, named, quick, yaml in [
            (
                "fields without @dataclass",
                "class Own(ScoreMethod):\n    power: float = 2.0\n    def score(self, signals):\n        return None",
                ("Own", "power", "@dataclass"),
                True,
                "",
            ),
            ("no score", "@dataclass\nclass Own(ScoreMethod):\n    pass", ("Own", "score()"), False, ""),
            ("no subclass", "class Own:\n    pass", ("Own", "Method"), False, ""),
            ("a function", "def Own():\n    pass", ("Own", "Method"), False, ""),
            ("no class", "Own = 3", ("Own", "Method"), False, ""),
            ("Method itself", "Own = Method", ("base class itself",), False, ""),
            ("an import that raises", "1 / 0", ("ZeroDivisionError", "own_class_"), True, ""),
            ("an import that lacks a name", "@dataclas\nclass Own: pass", ("NameError", "own_class_"), False, ""),
            ("an import that exits", "sys.exit(3)", ("sys.exit",), False, ""),
            ("no stage", "@dataclass\nclass Own(Method):\n    pass", ("Own", "stage"), False, ""),
            (
                "a stage without its base",
                "@dataclass\nclass Own(Method):\n    stage: ClassVar = 'sequence'",
                ("Own.stage", "SequenceMethod"),
                False,
                "",
            ),
        ]
    ]
)

STAGES = (
    [
        method(
            INSIDE,
            f"schedule is {what}",
            returns("schedule(self, depth, n)", value),
            "Own.schedule",
            *named,
            quick=quick,
        )
        for what, value, quick, *named in [
            ("nothing", "None", False, "None"),
            ("empty", "[]", False, "[]"),
            ("a stage", "DecoderStage(2, 3)", False, "DecoderStage"),
            ("pairs", "[(2, 3)]", False, "(2, 3)"),
            ("before layer 0", "[DecoderStage(0, 3)]", True, "layer=0"),
            ("negative", "[DecoderStage(-1, 3)]", False, "layer=-1"),
            ("beyond the last", "[DecoderStage(depth, 3)]", False, "layer="),
            ("far beyond", "[DecoderStage(99, 3)]", False, "layer=99"),
            ("a float layer", "[DecoderStage(2.0, 3)]", False, "2.0"),
            ("in the wrong order", "[DecoderStage(3, 3), DecoderStage(2, 3)]", False, "layer"),
            ("the same layer twice", "[DecoderStage(2, 3), DecoderStage(2, 2)]", False, "layer"),
            ("growing", "[DecoderStage(2, n // 4), DecoderStage(3, n // 2)]", False, "never more"),
            ("a negative number", "[DecoderStage(2, -1)]", False, "kept=-1"),
            ("a float number", "[DecoderStage(2, n / 2)]", False, "kept="),
            ("other layers for other numbers", "[DecoderStage(2 + n % 2, n // 2)]", False, "layers"),
        ]
    ]
    + [
        method(INSIDE, name, body, *named)
        for name, body, *named in [
            ("a score of nothing", returns(SCORE, "None"), "Own.score", "None"),
            ("a score of heads", returns(SCORE, "signals.attention"), "Own.score", "[B, L]"),
            ("a score of visual tokens", returns(SCORE, "signals.attention[:, 0, 0, :9]"), "Own.score", "[B, L]"),
            ("a score of numpy", returns(SCORE, "signals.attention[:, 0, 0].numpy()"), "Own.score", "ndarray"),
            ("a score of complex", returns(SCORE, "signals.attention[:, 0, 0] * 1j"), "Own.score", "complex64"),
            ("a score of nan", returns(SCORE, "signals.attention[:, 0, 0] * torch.nan"), "Own", "nan"),
            ("reads", "reads: ClassVar = 'next'", "Own.reads", "next"),
            (
                "raters of integers",
                returns("raters(self, embeds, visual, valid)", "valid.long()"),
                "Own.raters",
                "int64",
            ),
            ("raters of one", returns("raters(self, embeds, visual, valid)", "valid[0]"), "Own.raters", "[B, L]"),
            ("raters as a list", returns("raters(self, embeds, visual, valid)", "[1]"), "Own.raters", "list"),
            ("raters of images", returns("raters(self, embeds, visual, valid)", "visual"), "Own.raters", "text"),
        ]
    ]
    + [
        method(
            INSIDE,
            f"select inside returns {what}",
            returns("select(self, signals, stages)", value),
            "Own.select",
            *named,
        )
        for what, value, *named in [
            ("nothing", "None", "None"),
            ("a mask", "self.half(signals, stages)", "Tensor", "DecoderSelection"),
            ("a Selection", "Selection(self.half(signals, stages))", "Selection"),
            ("integers", "DecoderSelection(self.half(signals, stages).long())", "keep", "int64"),
            ("one row", "DecoderSelection(self.half(signals, stages)[0])", "keep", "[B, L]"),
            ("numpy", "DecoderSelection(self.half(signals, stages).numpy())", "keep", "ndarray"),
            ("text", "DecoderSelection(signals.valid)", "keep"),
            ("all", "DecoderSelection(signals.visual)", "keep"),
            ("none", "DecoderSelection(signals.visual & ~signals.visual)", "keep"),
            ("other rows", "DecoderSelection(self.half(signals, stages), signals.hidden[:, :3])", "hidden"),
            ("another width", "DecoderSelection(self.half(signals, stages), signals.hidden[..., :3])", "hidden"),
            ("integers as rows", "DecoderSelection(self.half(signals, stages), signals.hidden.int())", "hidden"),
            (
                "an order of floats",
                "DecoderSelection(self.half(signals, stages), order=signals.valid.float())",
                "order",
            ),
            ("a negative order", "DecoderSelection(self.half(signals, stages), order=-signals.valid.long())", "order"),
            ("left of too few", "DecoderSelection(self.half(signals, stages), left=[])", "left"),
            ("left as a tensor", "DecoderSelection(self.half(signals, stages), left=torch.ones(2))", "left"),
            ("left that is wrong", "DecoderSelection(self.half(signals, stages), left=[1] * len(stages))", "keep"),
            ("unsound as a list", "DecoderSelection(self.half(signals, stages), unsound=[False])", "unsound"),
            ("scores of a sample", "DecoderSelection(self.half(signals, stages), scores=signals.visual[0])", "scores"),
        ]
    ]
)

MERGES = [
    method(MERGED, name, body, *named, **options)
    for name, body, *named, options in [
        ("merge counts are text", returns("merge_counts(self, tower, n)", "'1'"), "Own.merge_counts", {}),
        ("merge counts are too few", returns("merge_counts(self, tower, n)", "(1,)"), "Own.merge_counts", {}),
        (
            "merge counts are negative",
            returns("merge_counts(self, tower, n)", "(-1,) * len(self.layers(tower))"),
            "Own.merge_counts",
            "-1",
            {},
        ),
        (
            "merge counts are too large",
            returns("merge_counts(self, tower, n)", "(n,) * len(self.layers(tower))"),
            "Own.merge_counts",
            {},
        ),
        ("merged layers", returns("layers(self, tower)", "(0, 99)"), "Own.layers", "99", {}),
        ("a match of nothing", returns("match(self, metric, r, layer, tower)", "None"), "Own.match", "None", {}),
        (
            "a match of floats",
            returns("match(self, metric, r, layer, tower)", "Matching(metric[..., 0], metric[..., 0], metric[..., 0])"),
            "Own.match",
            "stay",
            {},
        ),
        (
            "a match of too few",
            returns(
                "match(self, metric, r, layer, tower)",
                "Matching(torch.zeros(len(metric), 1).long(), torch.zeros(len(metric), r).long(),"
                " torch.zeros(len(metric), r).long())",
            ),
            "Own.match",
            "stay",
            {},
        ),
        (
            "a match out of range",
            returns(
                "match(self, metric, r, layer, tower)",
                "Matching(torch.arange(metric.shape[1] - r).expand(len(metric), -1) + 1000,"
                " torch.zeros(len(metric), r).long(), torch.zeros(len(metric), r).long())",
            ),
            "Own.match",
            "stay",
            {},
        ),
        (
            "a match of a row twice",
            returns(
                "match(self, metric, r, layer, tower)",
                "Matching(torch.arange(metric.shape[1] - r).expand(len(metric), -1),"
                " torch.zeros(len(metric), r).long(), torch.zeros(len(metric), r).long())",
            ),
            "Own.match",
            {},
        ),
    ]
]

LOAD = "load(self, part=False)"
SAMPLE = "Sample('a', 'i', 'What is this?', 'red', 'all')"
LOADED = [
    benchmark(f"load returns {what}", returns(LOAD, value), "Own.load", *named, quick=quick)
    for what, value, quick, *named in [
        ("nothing", "None", True, "None"),
        ("an empty list", "[]", False, "no sample"),
        ("an empty generator", "iter(())", False, "no sample"),
        ("a dict", "{'a': 1}", False, "dict"),
        ("a number", "3", False, "3"),
        ("text", "'samples'", False, "samples"),
        ("a sample", SAMPLE, False, "Sample"),
        ("dicts", "[{'id': 'a'}]", False, "dict", "Sample"),
        ("tuples", "[('a', 'i', 'q')]", False, "tuple", "Sample"),
        ("none among samples", f"[{SAMPLE}, None]", False, "None", "Sample"),
        ("the same id twice", f"[{SAMPLE}, {SAMPLE}]", False, "'a'", "twice"),
        ("integer ids", "[Sample(1, 'i', 'q', 'a', 'c')]", False, "id", "1"),
        ("an id of nothing", "[Sample(None, 'i', 'q', 'a', 'c')]", False, "id", "None"),
        ("an empty id", "[Sample('', 'i', 'q', 'a', 'c')]", False, "id"),
        ("integer image ids", "[Sample('a', 7, 'q', 'a', 'c')]", False, "image_id", "7"),
        ("a question of nothing", "[Sample('a', 'i', None, 'a', 'c')]", False, "question", "None"),
        ("an answer of a number", "[Sample('a', 'i', 'q', 3, 'c')]", False, "answer", "3"),
        ("an answer of nothing", "[Sample('a', 'i', 'q', None, 'c')]", False, "answer", "None"),
        ("a category of a list", "[Sample('a', 'i', 'q', 'a', ['c'])]", False, "category"),
        ("audio", "[Sample('a', 'i', 'q', 'a', 'c', media='audio')]", False, "media", "audio"),
        ("a group of a number", "[Sample('a', 'i', 'q', 'a', 'c', group=1)]", False, "group", "1"),
        ("extra of a list", "[Sample('a', 'i', 'q', 'a', 'c', extra=[1])]", False, "extra"),
        ("extra of a set", "[Sample('a', 'i', 'q', 'a', 'c', extra={'k': {1}})]", False, "extra", "set"),
        ("extra of nan", "[Sample('a', 'i', 'q', 'a', 'c', extra={'k': float('nan')})]", False, "extra", "nan"),
        ("extra of an array", "[Sample('a', 'i', 'q', 'a', 'c', extra={'k': numpy.ones(2)})]", False, "extra"),
        ("an array as text", "[Sample('a', 'i', numpy.ones(2), 'a', 'c')]", False, "question"),
        ("bytes as text", "[Sample('a', 'i', b'q', 'a', 'c')]", False, "question"),
        ("half a character", "[Sample('a', 'i', '\\ud800', 'a', 'c')]", False, "question"),
    ]
] + [benchmark("load takes nothing", "def load(self):\n    return []", "Own.load", "part")]

IMAGES = [
    benchmark(f"images are {what}", returns("images(self, sample)", value), "Own.images", "s0", *named)
    for what, value, *named in [
        ("nothing", "None", "None"),
        ("one picture", "Image.new('RGB', (56, 56))", "Image"),
        ("arrays", "[numpy.zeros((56, 56, 3), 'uint8')]", "ndarray"),
        ("tensors", "[torch.zeros(3, 56, 56)]", "Tensor"),
        ("an array", "numpy.zeros((1, 56, 56, 3), 'uint8')", "ndarray"),
        ("names", "['a.png']", "a.png"),
        ("a name", "'a.png'", "a.png"),
        ("bytes", "[b'PNG']", "bytes"),
        ("none among them", "[None]", "None"),
        ("a dict", "{'image': Image.new('RGB', (56, 56))}", "dict"),
        ("numbers", "[3]", "3"),
        ("of no pixel", "[Image.new('RGB', (0, 0))]", "0 x 0"),
        ("of another class", "[object()]", "object"),
    ]
]

PROMPTS = [
    benchmark(f"prompt is {what}", returns("prompt(self, sample)", value), "Own.prompt", "s0", *named)
    for what, value, *named in [
        ("nothing", "None", "None"),
        ("bytes", "b'What?'", "bytes"),
        ("a list", "['What?']", "list"),
        ("a chat", "[{'role': 'user', 'content': 'What?'}]", "list"),
        ("a number", "3", "3"),
        ("half a character", "'\\ud800'", "ud800"),
    ]
]

ANSWER = "(self, prediction, sample)"
SCORED_ANSWERS = [
    benchmark(
        f"{function} is {what}", returns(f"{function}(self, prediction, sample)", value), f"Own.{function}", *named
    )
    for function in ("score", "match")
    for what, value, *named in [
        ("text", "'1.0'", "'1.0'"),
        ("nan", "float('nan')", "nan"),
        ("infinity", "float('inf')", "inf"),
        ("negative", "-1.0", "-1.0"),
        ("a list", "[1.0]", "[1.0]"),
        ("a dict", "{'accuracy': 1.0}", "dict"),
        ("a pair", "(1.0, 'right')", "tuple"),
        ("complex", "1j", "1j"),
        ("an array", "numpy.ones(2)", "ndarray"),
        ("a tensor", "torch.ones(2)", "Tensor"),
        ("a nan of numpy", "numpy.float32('nan')", "nan"),
        ("an enormous integer", "10 ** 400", "score"),
    ][: 12 if function == "score" else 4]
]

AGGREGATES = [
    benchmark(f"{function} is {what}", returns(f"{function}(self, rows)", value), f"Own.{function}", *named)
    for function in ("aggregate", "summarise")
    for what, value, *named in [
        ("nothing", "None", "None"),
        ("a number", "0.5", "0.5"),
        ("a list", "[0.5]", "[0.5]"),
        ("without the main metric", "{'precision': 0.5}", "accuracy"),
        ("of nan", "{'accuracy': float('nan')}", "nan"),
        ("of infinity", "{'accuracy': float('inf')}", "inf"),
        ("of text", "{'accuracy': 'high'}", "high"),
        ("of nothing", "{'accuracy': None}", "None"),
        ("of integer keys", "{'accuracy': 0.5, 1: 0.5}", "1"),
        ("nested", "{'accuracy': 0.5, 'more': {'a': 1.0}}", "more"),
    ][: 10 if function == "aggregate" else 3]
]

REST = [
    benchmark(name, body, *named, **options)
    for name, body, named, options in [
        ("identity is nothing", returns("identity(self)", "None"), ("Own.identity", "None"), {}),
        ("identity is a number", returns("identity(self)", "3"), ("Own.identity", "3"), {}),
        ("identity is empty", returns("identity(self)", "''"), ("Own.identity",), {}),
        ("identity is an array", returns("identity(self)", "numpy.ones(2)"), ("Own.identity",), {}),
        ("data_name is nothing", returns("data_name(self)", "None"), ("Own.data_name", "None"), {}),
        ("data_name is a path", returns("data_name(self)", "'../../x'"), ("Own.data_name", "../../x"), {}),
        ("data_name is a number", returns("data_name(self)", "3"), ("Own.data_name", "3"), {}),
        ("metric is text", "metric: ClassVar = 'accuracy'", ("Own.metric", "accuracy", "Metric"), {}),
        ("metric is named by a number", "metric: ClassVar = Metric(3)", ("Own.metric", "3"), {}),
        ("metric's range", "metric: ClassVar = Metric('accuracy', 1.0, 0.0)", ("Own.metric",), {}),
        ("protocol is text", "protocol: ClassVar = 'gpt'", ("Own.protocol", "gpt"), {}),
        ("resampled is text", "resampled: ClassVar = 'no'", ("Own.resampled", "no"), {}),
        ("units are a list", returns("units(self, rows)", "[1.0]"), ("Own.units", "list"), {}),
        ("units of too few", returns("units(self, rows)", "([1.0], [])"), ("Own.units",), {}),
        ("units of nan", returns("units(self, rows)", "([float('nan')] * 2, ['a', 'b'])"), ("Own.units", "nan"), {}),
        ("main_score is text", returns("main_score(self, metrics)", "'high'"), ("Own.main_score", "high"), {}),
        ("main_score is nan", returns("main_score(self, metrics)", "float('nan')"), ("Own.main_score", "nan"), {}),
        ("scorable is text", returns("scorable(self, rows)", "'yes'"), ("Own.scorable", "yes"), {}),
        ("submission is bytes", returns("submission_file(self, rows)", "b'x'"), ("Own.submission_file", "bytes"), {}),
        ("submission of numbers", returns("submission_file(self, rows)", "('a', 3)"), ("Own.submission_file",), {}),
        (
            "submission elsewhere",
            returns("submission_file(self, rows)", "('../a', b'')"),
            ("Own.submission_file", "../a"),
            {},
        ),
        (
            "submission over the result",
            returns("submission_file(self, rows)", "('result.json', b'')"),
            ("Own.submission_file", "result.json"),
            {},
        ),
        ("max_new_tokens", "max_new_tokens: int = 0", ("max_new_tokens=0",), {}),
        ("max_new_tokens of text", "max_new_tokens: int = '3'", ("max_new_tokens",), {}),
        ("a default of another type", "prefix: str = None", ("prefix",), {}),
        ("shares_media is text", returns("shares_media(self, sample)", "'yes'"), ("Own.shares_media", "yes"), {}),
    ]
]

# What the user's own code raises: exit code 1, its traceback cut to the user's frames, and a last line that says where.
RAISED = [
    benchmark(
        f"{function} raises",
        f"def {function}{arguments}:\n    return broken()\nbroken = staticmethod(lambda: 1 / 0)".replace(
            "broken()", "self.broken()"
        ),
        f"Own.{function}",
        "ZeroDivisionError",
        *named,
        code=1,
    )
    for function, arguments, *named in [
        ("load", "(self, part=False)"),
        ("images", "(self, sample)", "s0"),
        ("prompt", "(self, sample)", "s0"),
        ("score", "(self, prediction, sample)", "s0"),
        ("match", "(self, prediction, sample)", "s0"),
        ("identity", "(self)"),
        ("data_name", "(self)"),
        ("aggregate", "(self, rows)"),
        ("summarise", "(self, rows)"),
        ("units", "(self, rows)"),
        ("main_score", "(self, metrics)"),
        ("submission_file", "(self, rows)"),
        ("shares_media", "(self, sample)", "s0"),
        ("__post_init__", "(self)"),
    ]
] + [
    method(
        template, f"{function} raises {named[1]}", f"def {function}{arguments}:\n    return {what}\n", *named, code=1
    )
    for template, function, arguments, what, *named in [
        (SCORED, "score", "(self, signals)", "1 / 0", "Own.score", "ZeroDivisionError"),
        (SCORED, "score", "(self, signals)", "signals.features @ signals.features", "Own.score", "RuntimeError"),
        (SCORED, "score", "(self, signals)", "signals.keys.norm()", "Own.score", "AttributeError"),
        (SCORED, "score", "(self, signals)", "sys.exit(0)", "Own.score", "SystemExit"),
        (SCORED, "score", "(self, signals)", "self.score(signals)", "Own.score", "RecursionError"),
        (SELECTED, "select", "(self, signals, k)", "[][3]", "Own.select", "IndexError"),
        (SCORED, "layers", "(self, tower)", "tower.deep", "Own.layers", "AttributeError"),
        (SCORED, "count", "(self, n)", "{}[n]", "Own.count", "KeyError"),
        (SCORED, "shares", "(self, units)", "{}[0]", "Own.shares", "KeyError"),
        (SCORED, "parts", "(self, n)", "{}[n]", "Own.parts", "KeyError"),
        (SCORED, "__post_init__", "(self)", "1 / 0", "Own.__post_init__", "ZeroDivisionError"),
        (SCORED, "selection_macs", "(self, n, k, widths)", "1 / 0", "Own.selection_macs", "ZeroDivisionError"),
        (INSIDE, "schedule", "(self, depth, n)", "1 / 0", "Own.schedule", "ZeroDivisionError"),
        (INSIDE, "score", "(self, signals)", "{}[0]", "Own.score", "KeyError"),
        (INSIDE, "raters", "(self, embeds, visual, valid)", "1 / 0", "Own.raters", "ZeroDivisionError"),
        (INSIDE, "select", "(self, signals, stages)", "1 / 0", "Own.select", "ZeroDivisionError"),
        (MERGED, "match", "(self, metric, r, layer, tower)", "1 / 0", "Own.match", "ZeroDivisionError"),
        (MERGED, "merge_counts", "(self, tower, n)", "1 / 0", "Own.merge_counts", "ZeroDivisionError"),
    ]
]

LOGGED = [
    own("logger", LOGGER, f"{function} {what}", f"def {function}:\n    {body}\n", "Own", *named, code=0)
    for function in (
        "place(self, directory, outputs)",
        "start(self, config, fingerprint, group)",
        "log_result(self, result, samples)",
        "finish(self, exit_code)",
    )
    for what, body, *named in [
        ("raises", "1 / 0", "ZeroDivisionError", "the run goes on"),
        ("exits", "sys.exit(5)", "SystemExit", "the run goes on"),
        ("has another signature", "return self.nothing.there", "AttributeError"),
    ]
] + [
    own("logger", LOGGER, name, body, *named, code=code)
    for name, body, named, code in [
        ("the constructor raises", "def __post_init__(self):\n    1 / 0", ("Own", "ZeroDivisionError"), 0),
        ("the line raises", "line = property(lambda self: 1 / 0)", ("Own.line", "ZeroDivisionError"), 0),
        ("the line is a number", "line = property(lambda self: 3)", ("Own.line", "3"), 0),
        ("start takes nothing", "def start(self):\n    pass", ("Own.start", "cannot be called"), 0),
        (
            "it changes the result",
            "def log_result(self, result, samples):\n    result.clear()\n    samples.clear()\n    1 / 0",
            ("Own.log_result", "accuracy"),
            0,
        ),
        (
            "it changes the config",
            "def start(self, config, fingerprint, group):\n    config.clear()\n    1 / 0",
            ("Own.start", "accuracy"),
            0,
        ),
        (
            "a setting that its class refuses",
            "def __post_init__(self):\n    raise ValueError('no key')",
            ("no key",),
            2,
        ),
        ("a setting of an unknown type", "level: 'Level' = 1", ("Own", "Level"), 2),
    ]
]

WORKERS = """\
import sys
from dataclasses import dataclass
from vlmprune.launchers.base import Outcome, Worker, WorkerLauncher

class Hand(Worker):
    def begin(self, task): pass
    def outcome(self): return Outcome("done", score=0.5)
    def stop(self): pass

@dataclass
class Own(WorkerLauncher):
    def hire(self, tasks, folder):
        return [Hand()]
"""

LAUNCHED = [
    own("launcher", template, name, body, *named, code=code)
    for template, name, body, named, code in [
        (LAUNCHER, "check raises", "def check(self, configs, dry=False):\n    1 / 0", ("Own.check", "ZeroDivision"), 1),
        (LAUNCHER, "run raises", "def run(self, tasks, watch):\n    1 / 0", ("Own.run", "ZeroDivision"), 1),
        (LAUNCHER, "run exits", "def run(self, tasks, watch):\n    sys.exit(0)", ("Own.run", "SystemExit"), 1),
        (LAUNCHER, "it runs nothing", "def run(self, tasks, watch):\n    pass", ("Own.run", "of 1"), 2),
        (
            LAUNCHER,
            "an outcome of text",
            "def run(self, tasks, watch):\n    watch.ended(1, 'done')",
            ("Own.run", "'done'", "Outcome"),
            2,
        ),
        (
            LAUNCHER,
            "a task that there is not",
            "def run(self, tasks, watch):\n    watch.ended(9, Outcome('done'))",
            ("Own.run", "9"),
            2,
        ),
        (
            LAUNCHER,
            "a status that there is not",
            "def run(self, tasks, watch):\n    watch.ended(1, Outcome('great'))",
            ("Own.run", "great"),
            2,
        ),
        (LAUNCHER, "check takes nothing", "def check(self):\n    pass", ("Own.check", "cannot be called"), 2),
        (WORKERS, "it hires nobody", "def hire(self, tasks, folder):\n    return []", ("Own.hire", "[]"), 2),
        (WORKERS, "it hires nothing", "def hire(self, tasks, folder):\n    return None", ("Own.hire", "None"), 2),
        (WORKERS, "it hires names", "def hire(self, tasks, folder):\n    return ['a']", ("Own.hire", "'a'"), 2),
        (WORKERS, "hiring raises", "def hire(self, tasks, folder):\n    1 / 0", ("Own.hire", "ZeroDivision"), 1),
        (LAUNCHER, "the constructor raises", "def __post_init__(self):\n    1 / 0", ("Own.__post_init__",), 1),
    ]
]

EVERY = [
    *SCORES,
    *SELECTIONS,
    *PLANNED,
    *STAGES,
    *MERGES,
    *LOADED,
    *IMAGES,
    *PROMPTS,
    *SCORED_ANSWERS,
    *AGGREGATES,
    *REST,
    *RAISED,
    *LOGGED,
    *LAUNCHED,
]
# All that ends in exit code 2 is tried in one process by tests/robustness/test_own_classes.py, where it takes
# milliseconds; a sixth of it, and all that ends otherwise, as a command.
CASES: list[Hostile] = [case for number, case in enumerate(EVERY) if case.code != 2 or case.quick or number % 6 == 0]
