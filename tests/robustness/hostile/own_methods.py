"""Methods of a user's own that break the contract of their base class."""

from __future__ import annotations

from tests.robustness.hostile.table import Hostile
from tests.robustness.own_class import own, returning, tried_as_commands, with_members

IMPORTS = """\
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

SCORED = f"""\
{IMPORTS}@dataclass
class Own(ScoreMethod):
    needs: ClassVar = ("features",)
    def score(self, signals):
        return self.norm(signals)
    def norm(self, signals):
        return signals.features.norm(dim=-1)
"""

SELECTED = f"""\
{IMPORTS}@dataclass
class Own(SequenceMethod):
    needs: ClassVar = ("features",)
    def select(self, signals, k):
        return Selection(self.first(signals, k))
    def first(self, signals, k):
        return torch.arange(k).expand(signals.images, k).contiguous()
"""

INSIDE = f"""\
{IMPORTS}@dataclass
class Own(DecoderMethod):
    def schedule(self, depth, n):
        return [DecoderStage(2, self.count(n))]
    def score(self, signals):
        return signals.attention.mean(dim=1)[:, -1]
    def half(self, signals, stages):
        return signals.visual & (signals.visual.cumsum(dim=1) <= stages[0].kept)
"""

MERGED = f"""\
{IMPORTS}@dataclass
class Own(ToMe):
    pass
"""

SCORE = "score(self, signals)"
SCORES = returning(
    "method",
    SCORED,
    SCORE,
    [
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
    ],
)

SELECT = "select(self, signals, k)"
SELECTIONS = returning(
    "method",
    SELECTED,
    SELECT,
    [
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
    ],
) + returning(
    "method",
    SELECTED,
    SELECT,
    [
        (f"{field} {what}", f"Selection(self.first(signals, k), {field}={value})", field)
        for field, what, value in [
            ("features", "of another width", "signals.features[:, :k, :5]"),
            ("features", "of another rank", "signals.features[0, :k]"),
            ("features", "of another count", "signals.features"),
            ("features", "of integers", "signals.features[:, :k].int()"),
            ("features", "of bool", "signals.features[:, :k] > 0"),
            ("features", "of nan", "signals.features[:, :k] * torch.nan"),
            ("features", "of infinity", "signals.features[:, :k] / 0"),
            ("features", "in numpy", "signals.features[:, :k].numpy()"),
            ("valid", "of floats", "torch.ones(signals.images, k)"),
            ("valid", "of one image", "torch.ones(k, dtype=torch.bool)"),
            ("valid", "as a list", "[True] * k"),
            ("unsound", "as a list", "[False]"),
            ("unsound", "of tokens", "self.first(signals, k) < 0"),
            ("scores", "of kept tokens", "signals.features[:, :k, 0]"),
            ("blocks", "that are too few", "(0,)"),
            ("blocks", "that are a number", "3"),
            ("blocks", "that are a tensor", "self.first(signals, k)"),
        ]
    ],
)

PLANNED = [
    case
    for function, rows in {
        "layers(self, tower)": [
            ("a negative one", "(-1,)", "-1"),
            ("one too deep", "(99,)", "99"),
            ("a float", "(1.0,)", "1.0"),
            ("a number", "1", "1"),
            ("nothing", "None", "None"),
            ("none", "()", "()"),
            ("a layer twice", "(1, 1)", "(1, 1)"),
        ],
        "count(self, n)": [
            ("a float", "n / 2", "float"),
            ("a negative number", "-3", "-3"),
            ("too many", "n + 1", "0 to"),
            ("nothing", "None", "None"),
        ],
        "shares(self, units)": [
            ("a number", "3", "3"),
            ("too few", "[]", "[]"),
            ("floats", "[n / 2 for n in units]"),
            ("negative numbers", "[-1 for n in units]", "-1"),
        ],
        "parts(self, n)": [("nothing", "None", "None"), ("names", "('cls',)", "cls"), ("none", "()", "()")],
        "keeps_all(self, n)": [("nothing", "None", "None")],
        "check(self, tower, depth)": [("a text", "'no'", "no")],
        "selection_macs(self, n, k, widths)": [
            ("text", "'many'", "many"),
            ("a negative number", "-1", "-1"),
            ("nan", "float('nan')"),
        ],
    }.items()
    for case in returning("method", SCORED, function, rows)
]

DECLARED = with_members(
    "method",
    SCORED,
    [
        ("needs of text", "needs: ClassVar = 'features'", "Own.needs", "'features'"),
        ("needs that are unknown", "needs: ClassVar = ('feature',)", "Own", "feature", "did you mean"),
        ("needs of numbers", "needs: ClassVar = [1]", "Own.needs", "1"),
        ("needs of nothing", "needs: ClassVar = None", "Own.needs", "None"),
        ("needs in a set", "needs: ClassVar = {'features'}", "Own.needs", "set"),
        ("needs of the decoder", "needs: ClassVar = ('decoder_attention',)", "Own.needs", "decoder_attention"),
        ("a stage that there is not", "stage: ClassVar = 'middle'", "Own.stage", "middle"),
        ("a stage of another kind", "stage: ClassVar = 'decoder'", "Own.stage", "decoder"),
        ("published_positions", "published_positions: ClassVar = 'random'", "Own.published_positions", "random"),
        ("published_scope", "published_scope: ClassVar = 'word'", "Own.published_scope", "word"),
        ("merges", "merges: ClassVar = 'yes'", "Own.merges", "yes"),
        ("reads_question", "reads_question = property(lambda self: 'no')", "Own.reads_question", "no"),
        ("position_rule", "position_rule = property(lambda self: 'gap')", "Own.position_rule", "gap"),
        (
            "a setting that its class refuses",
            "power: int = 0\ndef __post_init__(self):\n    raise ValueError('power must be 1')",
            "power must be 1",
        ),
        ("a setting of an unknown type", "power: 'Power' = 1", "Own", "Power"),
        ("a constructor of its own", "def __init__(self, power):\n    self.power = power", "Own", "__init__"),
        ("mutable defaults", "power: list = []", "Own", "default_factory"),
    ],
)

WHOLE = [
    own("method", name, f"{IMPORTS}{source}\n", *named)
    for name, source, *named in [
        (
            "fields without @dataclass",
            "class Own(ScoreMethod):\n    power: float = 2.0\n    def score(self, signals):\n        return None",
            "Own",
            "power",
            "@dataclass",
        ),
        ("no score", "@dataclass\nclass Own(ScoreMethod):\n    pass", "Own", "score()"),
        ("no subclass", "class Own:\n    pass", "Own", "Method"),
        ("a function", "def Own():\n    pass", "Own", "Method"),
        ("no class", "Own = 3", "Own", "Method"),
        ("Method itself", "Own = Method", "base class itself"),
        ("an import that raises", "1 / 0", "ZeroDivisionError", "own_class_"),
        ("an import that lacks a name", "@dataclas\nclass Own: pass", "NameError", "own_class_"),
        ("an import that exits", "sys.exit(3)", "sys.exit"),
        ("no stage", "@dataclass\nclass Own(Method):\n    pass", "Own", "stage"),
        (
            "a stage without its base",
            "@dataclass\nclass Own(Method):\n    stage: ClassVar = 'sequence'",
            "Own.stage",
            "SequenceMethod",
        ),
    ]
]

SCHEDULES = returning(
    "method",
    INSIDE,
    "schedule(self, depth, n)",
    [
        ("nothing", "None", "None"),
        ("no stage", "[]", "[]"),
        ("one stage", "DecoderStage(2, 3)", "DecoderStage"),
        ("pairs", "[(2, 3)]", "(2, 3)"),
        ("a stage before layer 0", "[DecoderStage(0, 3)]", "layer=0"),
        ("a negative layer", "[DecoderStage(-1, 3)]", "layer=-1"),
        ("a layer beyond the last", "[DecoderStage(depth, 3)]", "layer="),
        ("a layer far beyond", "[DecoderStage(99, 3)]", "layer=99"),
        ("a float layer", "[DecoderStage(2.0, 3)]", "2.0"),
        ("layers in the wrong order", "[DecoderStage(3, 3), DecoderStage(2, 3)]", "layer"),
        ("the same layer twice", "[DecoderStage(2, 3), DecoderStage(2, 2)]", "layer"),
        ("growing numbers", "[DecoderStage(2, n // 4), DecoderStage(3, n // 2)]", "never more"),
        ("a negative number", "[DecoderStage(2, -1)]", "kept=-1"),
        ("a float number", "[DecoderStage(2, n / 2)]", "kept="),
        ("other layers for other numbers", "[DecoderStage(2 + n % 2, n // 2)]", "layers"),
    ],
)

SCORES_INSIDE = returning(
    "method",
    INSIDE,
    SCORE,
    [
        ("nothing", "None", "None"),
        ("heads", "signals.attention", "[B, L]"),
        ("those of visual tokens", "signals.attention[:, 0, 0, :9]", "[B, L]"),
        ("numpy", "signals.attention[:, 0, 0].numpy()", "ndarray"),
        ("complex", "signals.attention[:, 0, 0] * 1j", "complex64"),
    ],
    "score inside",
) + with_members(
    "method",
    INSIDE,
    [
        ("score inside returns nan", f"def {SCORE}:\n    return signals.attention[:, 0, 0] * torch.nan", "Own", "nan"),
        ("reads", "reads: ClassVar = 'next'", "Own.reads", "next"),
    ],
)

RATERS = returning(
    "method",
    INSIDE,
    "raters(self, embeds, visual, valid)",
    [
        ("integers", "valid.long()", "int64"),
        ("one", "valid[0]", "[B, L]"),
        ("a list", "[1]", "list"),
        ("images", "visual", "text"),
    ],
)

HALF = "self.half(signals, stages)"
SELECTIONS_INSIDE = returning(
    "method",
    INSIDE,
    "select(self, signals, stages)",
    [
        ("nothing", "None", "None"),
        ("a mask", HALF, "Tensor", "DecoderSelection"),
        ("a Selection", f"Selection({HALF})", "Selection"),
        ("integers", f"DecoderSelection({HALF}.long())", "keep", "int64"),
        ("one row", f"DecoderSelection({HALF}[0])", "keep", "[B, L]"),
        ("numpy", f"DecoderSelection({HALF}.numpy())", "keep", "ndarray"),
        ("text", "DecoderSelection(signals.valid)", "keep"),
        ("all", "DecoderSelection(signals.visual)", "keep"),
        ("none", "DecoderSelection(signals.visual & ~signals.visual)", "keep"),
        ("other rows", f"DecoderSelection({HALF}, signals.hidden[:, :3])", "hidden"),
        ("another width", f"DecoderSelection({HALF}, signals.hidden[..., :3])", "hidden"),
        ("integers as rows", f"DecoderSelection({HALF}, signals.hidden.int())", "hidden"),
        ("an order of floats", f"DecoderSelection({HALF}, order=signals.valid.float())", "order"),
        ("a negative order", f"DecoderSelection({HALF}, order=-signals.valid.long())", "order"),
        ("left of too few", f"DecoderSelection({HALF}, left=[])", "left"),
        ("left as a tensor", f"DecoderSelection({HALF}, left=torch.ones(2))", "left"),
        ("left that is wrong", f"DecoderSelection({HALF}, left=[1] * len(stages))", "keep"),
        ("unsound as a list", f"DecoderSelection({HALF}, unsound=[False])", "unsound"),
        ("scores of a sample", f"DecoderSelection({HALF}, scores=signals.visual[0])", "scores"),
    ],
    "select inside",
)

STAY = "torch.arange(metric.shape[1] - r).expand(len(metric), -1)"
GO = "torch.zeros(len(metric), r).long()"
MERGES = [
    case
    for function, rows in {
        "layers(self, tower)": [("one too deep for merging", "(0, 99)", "99")],
        "merge_counts(self, tower, n)": [
            ("text", "'1'"),
            ("too few", "(1,)"),
            ("negative numbers", "(-1,) * len(self.layers(tower))", "-1"),
            ("too large numbers", "(n,) * len(self.layers(tower))"),
        ],
        "match(self, metric, r, layer, tower)": [
            ("nothing", "None", "None"),
            ("floats", "Matching(metric[..., 0], metric[..., 0], metric[..., 0])", "stay"),
            ("too few", f"Matching(torch.zeros(len(metric), 1).long(), {GO}, {GO})", "stay"),
            ("rows out of range", f"Matching({STAY} + 1000, {GO}, {GO})", "stay"),
            ("a row twice", f"Matching({STAY}, {GO}, {GO})"),
        ],
    }.items()
    for case in returning("method", MERGED, function, rows)
]

# What the user's own code raises: exit code 1, its traceback cut to the user's frames, and a last line that says where.
RAISED = [
    case
    for template, function, value, error in [
        (SCORED, SCORE, "1 / 0", "ZeroDivisionError"),
        (SCORED, SCORE, "signals.features @ signals.features", "RuntimeError"),
        (SCORED, SCORE, "signals.keys.norm()", "AttributeError"),
        (SCORED, SCORE, "sys.exit(0)", "SystemExit"),
        (SCORED, SCORE, "self.score(signals)", "RecursionError"),
        (SELECTED, SELECT, "[][3]", "IndexError"),
        (SCORED, "layers(self, tower)", "tower.deep", "AttributeError"),
        (SCORED, "count(self, n)", "{}[n]", "KeyError"),
        (SCORED, "shares(self, units)", "{}[0]", "KeyError"),
        (SCORED, "parts(self, n)", "{}[n]", "KeyError"),
        (SCORED, "__post_init__(self)", "1 / 0", "ZeroDivisionError"),
        (SCORED, "selection_macs(self, n, k, widths)", "1 / 0", "ZeroDivisionError"),
        (INSIDE, "schedule(self, depth, n)", "1 / 0", "ZeroDivisionError"),
        (INSIDE, SCORE, "{}[0]", "KeyError"),
        (INSIDE, "raters(self, embeds, visual, valid)", "1 / 0", "ZeroDivisionError"),
        (INSIDE, "select(self, signals, stages)", "1 / 0", "ZeroDivisionError"),
        (MERGED, "match(self, metric, r, layer, tower)", "1 / 0", "ZeroDivisionError"),
        (MERGED, "merge_counts(self, tower, n)", "1 / 0", "ZeroDivisionError"),
    ]
    for case in returning("method", template, function, [(f"no value: {error}", value, error)], code=1)
]

EVERY = [
    *(*SCORES, *SELECTIONS, *PLANNED, *DECLARED, *WHOLE),
    *(*SCHEDULES, *SCORES_INSIDE, *RATERS, *SELECTIONS_INSIDE),
    *(*MERGES, *RAISED),
]
CASES: list[Hostile] = tried_as_commands(EVERY)
