"""Random data in every YAML of a user's folder, and random text as a setting: it works, or one UserError says why."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlmprune.cli import compare, run, speed
from vlmprune.cli.completion import candidates
from vlmprune.cli.listing import COLUMNS, markdown
from vlmprune.config.arguments import parse
from vlmprune.config.overrides import expand_sweep
from vlmprune.config.registry import read_choice
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.sweep.jobs import build_launcher, plan_jobs, split_settings

GROUPS = ("model", "method", "benchmark", "logger", "launcher", "experiment")
SOME = settings(
    deadline=None, derandomize=True, max_examples=30, database=None, suppress_health_check=list(HealthCheck)
)
WORDS = (
    *("info", "overrides", "defaults", "_target_", "name", "title", "family", "lacks", "needs", "has_cls", "hydra"),
    *("_partial_", "_args_", "keep_order", "columns", "path", "seed", "method", "stage", "size", "_self_"),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(
        ("${seed}", "${.a}", "${", "${oc.env:HOME}", "???", "vlmprune.methods.cls.ClsAttention", "method=cls", *WORDS)
    ),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=4), st.integers(), st.booleans(), st.none(), st.floats())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
TREES = VALUES | st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=5)
PIECES = st.sampled_from(
    (
        *("${", "}", "${seed}", "${oc.env:HOME}", "${oc.decode:", "[", "]", "{", ",", ":", " ", "'", '"', "\\"),
        *("choice(", "range(", "sort(", "shuffle(", "glob(", "int(", "str(", "float(", "interval(", "tag(", "(", ")"),
        *("1e999", "nan", "null", "true", "0x1", "1_0", "é", "\0", "\u2028", "\udcff", "\x1b", "@", "~", "+", "=", "#"),
        *("1", "-0.0", "%", "/", ".", "..", "*", "&", "!", "|", ">", ";"),
        *("seed", "method", "cls", "ratio", "0.5", "tiny"),
    )
) | st.text(max_size=3)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
NAMES = (
    *("ratio", "keep", "seed", "method", "model", "benchmark", "limit", "judge", "judge.wait", "method.keep_order"),
    *("outputs", "shard", "device", "data", "features.folder", "experiment", "launcher", "launcher.workers"),
    *("baselines", "speed.repeats", "speed", "batch_size", "show"),
)
SETTINGS = TEXTS | st.builds("{}{}={}".format, st.sampled_from(("", "+", "++", "~")), st.sampled_from(NAMES), TEXTS)


@SOME
@given(group=st.sampled_from(GROUPS), tree=TREES)
def test_a_tree_is_read_or_refused(group: str, tree: Any):
    with tempfile.TemporaryDirectory() as folder, suppress(UserError):
        write(Path(folder), group, tree)
        assert all(isinstance(key, str) for key in read_choice(group, "mine", folder))


@pytest.mark.slow
@SOME
@given(group=st.sampled_from(GROUPS), tree=TREES)
def test_a_tree_is_listed_completed_and_composed_or_refused(group: str, tree: Any):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), group, tree)
        for kind in (f"{group}s", "matrix"):
            assert kind in (*COLUMNS, "matrix") and markdown(kind, folder)
        assert isinstance(candidates(f"vlmprune sweep --config-dir {folder} {group}=mine {group}."), list)
        with suppress(UserError):
            if group == "launcher":
                build_launcher(split_settings(["launcher=mine"], folder), folder)
            elif group == "experiment":
                plan_jobs(["experiment=mine"], folder, baselines=False)
            else:
                compose_run([f"{group}=mine"], folder)


@SOME
@given(setting=SETTINGS)
def test_a_setting_is_read_or_refused(setting: str):
    with suppress(UserError):
        compose_run(list(parse("run", run.Settings, [setting]).overrides))
    with suppress(UserError):
        assert expand_sweep([setting])
    with suppress(UserError):
        parse("speed", speed.Settings, [setting])
    with suppress(UserError):
        split_settings([setting], None)
    with suppress(UserError):
        parse("compare", compare.Settings, [setting])


def write(folder: Path, group: str, tree: Any) -> None:
    """`tree` as GROUP/mine.yaml; halves of surrogate pairs, which no file holds, as question marks."""
    (folder / group).mkdir()
    text = yaml.safe_dump(tree, allow_unicode=True)
    (folder / group / "mine.yaml").write_text(text, encoding="utf-8", errors="replace")
