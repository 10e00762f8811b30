"""Benchmarks of a user's own that break the contract of their base class."""

from __future__ import annotations

from tests.robustness.hostile.table import Hostile
from tests.robustness.own_class import returning, tried_as_commands, with_members

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

SAMPLE = "Sample('a', 'i', 'What is this?', 'red', 'all')"
LOADED = returning(
    "benchmark",
    BENCHMARK,
    "load(self, part=False)",
    [
        ("nothing", "None", "None"),
        ("an empty list", "[]", "no sample"),
        ("an empty generator", "iter(())", "no sample"),
        ("a dict", "{'a': 1}", "dict"),
        ("a number", "3", "3"),
        ("text", "'samples'", "samples"),
        ("a sample", SAMPLE, "Sample"),
        ("dicts", "[{'id': 'a'}]", "dict", "Sample"),
        ("tuples", "[('a', 'i', 'q')]", "tuple", "Sample"),
        ("none among samples", f"[{SAMPLE}, None]", "None", "Sample"),
        ("the same id twice", f"[{SAMPLE}, {SAMPLE}]", "'a'", "twice"),
        ("integer ids", "[Sample(1, 'i', 'q', 'a', 'c')]", "id", "1"),
        ("an id of nothing", "[Sample(None, 'i', 'q', 'a', 'c')]", "id", "None"),
        ("an empty id", "[Sample('', 'i', 'q', 'a', 'c')]", "id"),
        ("integer image ids", "[Sample('a', 7, 'q', 'a', 'c')]", "image_id", "7"),
        ("a question of nothing", "[Sample('a', 'i', None, 'a', 'c')]", "question", "None"),
        ("an answer of a number", "[Sample('a', 'i', 'q', 3, 'c')]", "answer", "3"),
        ("an answer of nothing", "[Sample('a', 'i', 'q', None, 'c')]", "answer", "None"),
        ("a category of a list", "[Sample('a', 'i', 'q', 'a', ['c'])]", "category"),
        ("audio", "[Sample('a', 'i', 'q', 'a', 'c', media='audio')]", "media", "audio"),
        ("a group of a number", "[Sample('a', 'i', 'q', 'a', 'c', group=1)]", "group", "1"),
        ("extra of a list", "[Sample('a', 'i', 'q', 'a', 'c', extra=[1])]", "extra"),
        ("extra of a set", "[Sample('a', 'i', 'q', 'a', 'c', extra={'k': {1}})]", "extra", "set"),
        ("extra of nan", "[Sample('a', 'i', 'q', 'a', 'c', extra={'k': float('nan')})]", "extra", "nan"),
        ("extra of an array", "[Sample('a', 'i', 'q', 'a', 'c', extra={'k': numpy.ones(2)})]", "extra"),
        ("an array as text", "[Sample('a', 'i', numpy.ones(2), 'a', 'c')]", "question"),
        ("bytes as text", "[Sample('a', 'i', b'q', 'a', 'c')]", "question"),
        ("half a character", "[Sample('a', 'i', '\\ud800', 'a', 'c')]", "question"),
    ],
)

ASKED = [
    case
    for function, rows in {
        "images(self, sample)": [
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
            ("one of no pixel", "[Image.new('RGB', (0, 0))]", "0 x 0"),
            ("those of another class", "[object()]", "object"),
        ],
        "prompt(self, sample)": [
            ("nothing", "None", "None"),
            ("bytes", "b'What?'", "bytes"),
            ("a list", "['What?']", "list"),
            ("a chat", "[{'role': 'user', 'content': 'What?'}]", "list"),
            ("a number", "3", "3"),
            ("half a character", "'\\ud800'", "ud800"),
        ],
    }.items()
    for case in returning(
        "benchmark", BENCHMARK, function, [(what, value, "s0", *named) for what, value, *named in rows]
    )
]

SCORES = [
    ("text", "'1.0'", "'1.0'"),
    ("nan", "float('nan')", "nan"),
    ("infinity", "float('inf')", "inf"),
    ("a negative number", "-1.0", "-1.0"),
    ("a list", "[1.0]", "[1.0]"),
    ("a dict", "{'accuracy': 1.0}", "dict"),
    ("a pair", "(1.0, 'right')", "tuple"),
    ("complex", "1j", "1j"),
    ("an array", "numpy.ones(2)", "ndarray"),
    ("a tensor", "torch.ones(2)", "Tensor"),
    ("a nan of numpy", "numpy.float32('nan')", "nan"),
    ("an enormous integer", "10 ** 400", "score"),
]
METRICS = [
    ("nothing", "None", "None"),
    ("a number", "0.5", "0.5"),
    ("a list", "[0.5]", "[0.5]"),
    ("no main metric", "{'precision': 0.5}", "accuracy"),
    ("nan", "{'accuracy': float('nan')}", "nan"),
    ("infinity", "{'accuracy': float('inf')}", "inf"),
    ("text", "{'accuracy': 'high'}", "high"),
    ("a metric of nothing", "{'accuracy': None}", "None"),
    ("integer keys", "{'accuracy': 0.5, 1: 0.5}", "1"),
    ("nested metrics", "{'accuracy': 0.5, 'more': {'a': 1.0}}", "more"),
]

REST = [
    case
    for function, rows in {
        "score(self, prediction, sample)": SCORES,
        "match(self, prediction, sample)": SCORES[:4],
        "aggregate(self, rows)": METRICS,
        "summarise(self, rows)": METRICS[:3],
        "identity(self)": [
            ("nothing", "None", "None"),
            ("a number", "3", "3"),
            ("empty text", "''"),
            ("an array", "numpy.ones(2)"),
        ],
        "data_name(self)": [
            ("nothing", "None", "None"),
            ("a path", "'../../x'", "../../x"),
            ("a number", "3", "3"),
        ],
        "units(self, rows)": [
            ("a list", "[1.0]", "list"),
            ("too few", "([1.0], [])"),
            ("nan", "([float('nan')] * 2, ['a', 'b'])", "nan"),
        ],
        "main_score(self, metrics)": [("text", "'high'", "high"), ("nan", "float('nan')", "nan")],
        "scorable(self, rows)": [("text", "'yes'", "yes")],
        "submission_file(self, rows)": [
            ("bytes", "b'x'", "bytes"),
            ("numbers", "('a', 3)"),
            ("a file elsewhere", "('../a', b'')", "../a"),
            ("the result's file", "('result.json', b'')", "result.json"),
        ],
        "shares_media(self, sample)": [("text", "'yes'", "yes")],
    }.items()
    for case in returning("benchmark", BENCHMARK, function, rows)
]

DECLARED = with_members(
    "benchmark",
    BENCHMARK,
    [
        ("load takes nothing", "def load(self):\n    return []", "Own.load", "part"),
        ("metric is text", "metric: ClassVar = 'accuracy'", "Own.metric", "accuracy", "Metric"),
        ("metric is named by a number", "metric: ClassVar = Metric(3)", "Own.metric", "3"),
        ("metric's range", "metric: ClassVar = Metric('accuracy', 1.0, 0.0)", "Own.metric"),
        ("protocol is text", "protocol: ClassVar = 'gpt'", "Own.protocol", "gpt"),
        ("resampled is text", "resampled: ClassVar = 'no'", "Own.resampled", "no"),
        ("max_new_tokens", "max_new_tokens: int = 0", "max_new_tokens=0"),
        ("max_new_tokens of text", "max_new_tokens: int = '3'", "max_new_tokens"),
        ("a default of another type", "prefix: str = None", "prefix"),
    ],
)

# What the user's own code raises: exit code 1, its traceback cut to the user's frames, and a last line that says where.
RAISED = with_members(
    "benchmark",
    BENCHMARK,
    [
        (
            f"{function} raises",
            f"def {function}{arguments}:\n    return self.broken()\nbroken = staticmethod(lambda: 1 / 0)",
            f"Own.{function}",
            "ZeroDivisionError",
            *named,
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
    ],
    code=1,
)

EVERY = [*LOADED, *ASKED, *REST, *DECLARED, *RAISED]
CASES: list[Hostile] = tried_as_commands(EVERY)
