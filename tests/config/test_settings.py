"""One way of reading settings: every command takes the same written forms, and refuses the others in one same way."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from vlmprune.cli import compare, listing, run, score, show, speed, wandb_report
from vlmprune.config.arguments import parse
from vlmprune.config.overrides import expand_sweep
from vlmprune.config.settings import compose_run
from vlmprune.errors import UserError
from vlmprune.sweep.jobs import plan_jobs, split_settings

FORMS = [  # a folder as typed, and as it is meant
    ("outputs='/a/é dir'", "/a/é dir"),
    ('outputs="/a/é dir"', "/a/é dir"),
    ("outputs=/a/é dir", "/a/é dir"),
    ("outputs=" + unicodedata.normalize("NFD", "/a/é"), unicodedata.normalize("NFD", "/a/é")),
    ("outputs='/a,b'", "/a,b"),
    ("outputs='/a (1)/[b]{c}'", "/a (1)/[b]{c}"),
    ("outputs=/a=b", "/a=b"),
    ("outputs=/a#b;c&d", "/a#b;c&d"),
    ("outputs=${oc.env:PLACE}/b", "/env é/b"),
    ("outputs='\\${seed}'", "${seed}"),
    ("outputs=/日本/図", "/日本/図"),
    ("outputs=~/é", os.path.expanduser("~/é")),
]


def of_compare(typed: str) -> str:
    return str(parse("compare", compare.Settings, [typed]).outputs)


def of_run(typed: str) -> str:
    return compose_run([typed]).outputs


def of_sweep(typed: str) -> str:
    return plan_jobs(split_settings([typed, "ratio=0.5", "method=cls"], None).run_overrides, None, False)[
        0
    ].config.outputs


def of_speed(typed: str) -> str:
    return compose_run(list(parse("speed", speed.Settings, [typed]).overrides)).outputs


@pytest.mark.parametrize("read", [of_compare, of_run, of_sweep, of_speed])
@pytest.mark.parametrize("typed, meant", FORMS, ids=[ascii(typed) for typed, _ in FORMS])
def test_a_folder_is_read_alike(monkeypatch: pytest.MonkeyPatch, read: Any, typed: str, meant: str) -> None:
    monkeypatch.setenv("PLACE", "/env é")
    assert read(typed) == meant


REFUSED = [  # a setting of every command's, how it may not be written, and what is said
    ("{key}=[", "is not key=value"),
    ("{key}='a", "is not key=value"),
    ("~{key}=a", "a setting cannot be removed"),
    ("+{key}=a", "there is such a setting already"),
]
COMMANDS = [
    ("outputs", of_run),
    ("outputs", of_sweep),
    ("outputs", of_compare),
    ("judge.model", lambda typed: parse("score", score.Settings, [typed])),
    ("format", lambda typed: parse("list", listing.Settings, ["loggers", typed])),
    ("format", lambda typed: parse("speed", speed.Settings, [typed])),
    ("speed.repeats", lambda typed: parse("speed", speed.Settings, [typed])),
    ("project", lambda typed: parse("wandb-report", wandb_report.Settings, [typed])),
    ("file", lambda typed: parse("show", show.Settings, [typed])),
    ("launcher", lambda typed: split_settings([typed], None)),
]


@pytest.mark.parametrize("form, said", REFUSED)
@pytest.mark.parametrize("key, read", COMMANDS, ids=[str(number) for number in range(len(COMMANDS))])
def test_what_is_refused_is_refused_alike(key: str, read: Any, form: str, said: str) -> None:
    if (key, form[0]) == ("file", "~"):
        pytest.skip("a question of show may begin with ~")
    with pytest.raises(UserError, match=said):
        read(form.format(key=key))


@pytest.mark.parametrize("read", [of_run, of_sweep, of_compare])
@pytest.mark.parametrize(
    "typed, said",
    [
        ("outputs=", "outputs=: expected the name of a folder"),
        ("outputs='  '", "expected the name of a folder"),
        ("outputs=null", "outputs=null: expected text"),
        ("outputs=2024", "outputs=\"'2024'\""),
        ("outputs=[a]", "expected text"),
        ("outputs=${nope}", "nope"),
    ],
)
def test_values_are_checked_alike(read: Any, typed: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read(typed)
    assert said in str(caught.value)


def test_a_list_is_written_in_brackets() -> None:
    with pytest.raises(UserError, match=r"or \[a,b\] for a list$"):
        compose_run(["logger=wandb", "logger.tags=a,b"])
    assert compose_run(["logger=wandb", "logger.tags=[a,b]"]).logger["tags"] == ["a", "b"]


def test_null_is_the_default_of_what_may_be_left_out() -> None:
    compared = parse("compare", compare.Settings, ["html=null", "ratio=null"])
    assert compared.html is None and compared.filters == {"ratio": {"null"}}
    assert parse("speed", speed.Settings, ["json=null"]).json is None


def test_a_judge_is_named_as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "http://host:1/v1")
    typed = ["judge.base_url='${oc.env:HOST}'", "judge.model='4.1'", "judge.temperature=null"]
    judge = parse("score", score.Settings, typed).judge
    assert judge is not None and (judge.base_url, judge.model, judge.temperature) == ("http://host:1/v1", "4.1", None)
    assert compose_run(typed).judge.base_url == judge.base_url


def test_of_a_setting_given_twice_the_last_counts_and_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def kept(*typed: str) -> list[str]:
        return list(parse("run", run.Settings, typed).overrides)

    assert kept("ratio=0.5", "limit=2", "ratio=0.9") == ["limit=2", "ratio=0.9"]
    assert kept("seed=1", "+seed=2") == ["+seed=2"]
    assert kept("method.k=1", "limit=2", "method.k=1") == ["limit=2", "method.k=1"]
    assert parse("compare", compare.Settings, ["format=csv", "format=json"]).format == "json"
    assert capsys.readouterr().err.splitlines() == [
        "ratio=0.5 is not used: ratio=0.9 comes after it",
        "seed=1 is not used: +seed=2 comes after it",
        "method.k=1 is not used: method.k=1 comes after it",
        "format=csv is not used: format=json comes after it",
    ]
    assert parse("show", show.Settings, ["a.png", "a.png"]).words == ("a.png", "a.png")
    assert not capsys.readouterr().err


def test_what_is_allowed_is_listed_once() -> None:
    with pytest.raises(UserError) as caught:
        parse("compare", compare.Settings, ["orientation=left"])
    listed = str(caught.value).partition("allowed: ")[2].split(", ")
    assert "columns" in listed and len(listed) == len(set(listed))


def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ratio=0.5").mkdir()
    shown = parse("show", show.Settings, ["ratio=0.5", "ratio=0.9", "why?"])
    assert (shown.overrides, shown.words) == (("ratio=0.9",), ("ratio=0.5", "why?"))
    assert parse("compare", compare.Settings, ["ratio=0.5"]).folders == ("ratio=0.5",)


def test_a_setting_goes_to_the_choices_that_have_it() -> None:
    assert expand_sweep(["benchmark=scenes,folder", "benchmark.path=/a,/b"]) == [
        ["benchmark=scenes"],
        ["benchmark=folder", "benchmark.path=/a"],
        ["benchmark=folder", "benchmark.path=/b"],
    ]
    assert expand_sweep(["method=cls,fastv", "method.k=3"]) == [["method=cls"], ["method=fastv", "method.k=3"]]
    assert expand_sweep(["logger=none,wandb", "logger.mode=offline"])[0] == ["logger=none"]
    parts = ["method=cls,compose", "method.before={name: cls}", "method.before.keep_order=score"]
    assert expand_sweep(parts)[0] == ["method=cls"] and len(expand_sweep(parts)[1]) == 3
    # One that no choice has stays, to be refused by name; one that all have goes to all.
    assert expand_sweep(["method=cls,fastv", "method.kk=3"])[0] == ["method=cls", "method.kk=3"]
    assert len(expand_sweep(["benchmark=scenes,folder", "benchmark.max_new_tokens=3"])[1]) == 2
    assert expand_sweep(["benchmark=gqa,pope", "benchmark.columns.index=x"])[0][-1] == "benchmark.columns.index=x"
    assert expand_sweep(["method='cls',fastv"]) == [["method=cls"], ["method=fastv"]]


def test_a_sweep_of_benchmarks_with_settings_of_their_own() -> None:
    settings = ["benchmark=scenes,folder", "benchmark.path=/data/é", "method=cls,fastv", "method.k=3", "ratio=0.5"]
    jobs = plan_jobs(settings, None)
    assert len(jobs) == 8  # unpruned, random, cls and fastv on each
    assert {job.config.benchmark.get("path") for job in jobs} == {None, "/data/é"}
    assert {job.config.method["k"] for job in jobs if job.record.method == "fastv"} == {3}
    with pytest.raises(UserError, match=r"'benchmark.pth' is not a setting of benchmark=scenes"):
        plan_jobs(["benchmark=scenes,folder", "benchmark.pth=/data", "ratio=0.5"], None)
