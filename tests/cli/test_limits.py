"""Limits of what settings and YAMLs may hold, and that what is within them still works."""

from __future__ import annotations

from typing import Annotated

import pytest
from annotated_types import Interval

from vlmprune.config.composition import check_interpolations
from vlmprune.config.overrides import LONGEST, MAX_SETTINGS, parse_overrides
from vlmprune.config.settings import compose_run
from vlmprune.config.typecheck import check_type
from vlmprune.config.yaml_files import DEEPEST, yaml_text
from vlmprune.errors import UserError


def test_what_is_as_long_as_allowed_is_read():
    longest = f"outputs={'a' * (LONGEST - 8)}"
    assert len(parse_overrides([longest])) == 1 and len(parse_overrides(["seed=1"] * MAX_SETTINGS)) == MAX_SETTINGS
    with pytest.raises(UserError, match="110,000 characters of settings in one command; allowed: 100,000"):
        parse_overrides([longest] * 11)
    with pytest.raises(UserError, match=f"{LONGEST + 1:,} characters; allowed: {LONGEST:,}"):
        parse_overrides([f"outputs={'a' * (LONGEST - 7)}"])
    with pytest.raises(UserError, match=f"{MAX_SETTINGS + 1:,} settings in one command; allowed: {MAX_SETTINGS:,}"):
        parse_overrides(["seed=1"] * (MAX_SETTINGS + 1))


def test_a_number_has_the_bounds_of_its_hint():
    hint = Annotated[int, Interval(ge=1, le=4000)] | None
    for value in (None, 1, 4000):
        check_type("n", value, hint)
    for value in (0, 4001, 10**30):
        with pytest.raises(UserError, match=f"n={value}: allowed: 1 or more, at most 4,000"):
            check_type("n", value, hint)
    with pytest.raises(UserError, match=r"n=1\.5: expected an integer or null"):
        check_type("n", 1.5, hint)
    with pytest.raises(UserError, match="allowed: integers of 64 bits"):
        check_type("n", 2**63, float)


def test_interpolations_that_are_of_use_are_resolved(monkeypatch):
    monkeypatch.setenv("NUMBER", "7")
    given = ["method=random", "seed='${oc.decode:${oc.env:NUMBER}}'", "data=${outputs}", "outputs=a/${now:%Y}/${seed}"]
    config = compose_run(given)
    assert (config.seed, config.method["seed"], config.data) == (7, 7, config.outputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": "${b}", "b": "${c}", "c": "x${a}"}, "a: its"),
        ({"a": {"b": "${..a}"}}, "a: its"),
        ({"a": ["${a}"]}, "a: its"),
        ({"a": "${oc.create:{}}"}, "a: what stands in"),
        ({"a": "\\\\${oc.select:b}"}, "a: what stands in"),
        ({"a": "${${b}}", "b": "a"}, "a: what stands in"),
        ({f"a{n}": f"${{a{n + 1}}}" * 9 for n in range(9)} | {"a9": "x"}, "longer than 100,000"),
    ],
)
def test_interpolations_that_do_not_end(settings, message):
    with pytest.raises(UserError, match=message):
        check_interpolations(settings)


def test_anchors_of_moderate_use_are_read(tmp_path):
    file = tmp_path / "a.yaml"
    nested = "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2)
    file.write_text(f"\ufeffbase: &base {{x: 1}}\nother: {{<<: *base, y: {nested}}}", encoding="utf-8")
    assert yaml_text(file).startswith("base")


def test_a_config_folder_of_any_name(tmp_path):
    folder = tmp_path / "a, b'[x] ${y} %20\\z" / "configs"
    (folder / "method").mkdir(parents=True)
    (folder / "method" / "mine.yaml").write_text("defaults: [cls, _self_]\nkeep_order: score\n")
    config = compose_run(["method=mine", "ratio=0.5"], str(folder))
    assert config.method["keep_order"] == "score" and config.method["_target_"].endswith("ClsAttention")
