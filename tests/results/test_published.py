"""published.csv is sound: sources, names, no figure twice, averages, copies and cautions."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import fields
from importlib.resources import files
from typing import Any

import pytest

from vlmprune.config.registry import find_choices, read_choice
from vlmprune.results.published import PublishedFigure, read_published

LINES = read_published()


def figure(source: str, model: str, method: str, tokens: int, benchmark: str, metric: str) -> float:
    """The one figure that is meant."""
    meant = (model, method, tokens, benchmark, metric)
    (found,) = [
        each.value
        for each in LINES
        if source in each.source and (each.model, each.method, each.tokens, each.benchmark, each.metric) == meant
    ]
    return found


def tables(source: str) -> dict[tuple[str, str], dict[tuple[Any, ...], dict[str, PublishedFigure]]]:
    """(table, model) -> row -> column -> line, of the sources that `source` is part of."""
    found: dict[Any, Any] = defaultdict(lambda: defaultdict(dict))
    for each in LINES:
        if source in each.source:
            row = (each.method, each.variant, each.ratio)
            found[each.table, each.model][row][each.benchmark, each.metric] = each
    return found


def test_columns_are_the_fields_and_every_line_is_sound() -> None:
    with (files("vlmprune.results") / "published.csv").open(encoding="utf-8") as text:
        assert next(csv.reader(text)) == [field.name for field in fields(PublishedFigure)]
    for each in LINES:
        assert each.source and each.table and each.model and each.method and each.metric
        assert each.ratio is None or 0 <= each.ratio <= 1
        assert each.our_method != "none" or each.ratio in (None, 0)
        assert all("=" in setting for setting in each.our_settings.split())
        assert each.value == each.value and abs(each.value) < 1e5


def test_no_figure_stands_twice() -> None:
    keys = [each.key for each in LINES]
    assert len(keys) == len(set(keys))


def test_our_names_are_choices_and_settings_exist() -> None:
    for group in ("model", "method", "benchmark"):
        assert {getattr(each, f"our_{group}") for each in LINES} - {""} <= find_choices(group).keys()
    for setting, method, model in {(s, each.our_method, each.our_model) for each in LINES for s in each.settings}:
        group, _, name = setting.partition(".")
        if name and (choice := {"method": method, "model": model}[group]):
            assert name in read_choice(group, choice), setting
        assert name or setting == "budget"


def test_scores_that_are_compared_are_metrics_of_the_benchmark() -> None:
    info = {each: read_choice("benchmark", each)["info"] for each in {each.our_benchmark for each in LINES} - {""}}
    extra = {"mme": {"cognition", "total"}, "pope": {"accuracy"}}
    videos = ("tgif", "msvd", "msrvtt", "activitynet")
    for each in LINES:
        if each.comparable:
            own = {info[each.our_benchmark]["metric"]} | extra.get(each.our_benchmark, set())
            assert each.metric in own | ({"rating"} if each.our_benchmark in videos else set()), each
            highest = {"perception": 2000, "cognition": 800, "total": 2800, "rating": 5, "ocrbench": 1000, "cider": 200}
            assert 0 <= each.value <= highest.get(each.metric, 100), each
    assert sum(each.comparable for each in LINES) > 800


@pytest.mark.parametrize(
    "source, model, method, tokens, benchmark, metric, value",
    [
        ("f5d5f12", "LLaVA-1.5-7B", "FasterVLM", 29, "GQA", "accuracy", 51.51),
        ("f5d5f12", "LLaVA-1.5-13B", "LLaVA-1.5-13B", 0, "POPE", "f1", 1.45),
        ("f5d5f12", "LLaVA-NeXT-7B", "FasterVLM", 290, "MME", "perception", 1370.11),
        ("eca4cd5", "Video-LLaVA", "FasterVLM", 104, "MSVD", "rating", 3.79),
        ("8494094", "LLaVA-NeXT-7B", "FastV", 145, "POPE", "flops_tera", 6.30),
        ("performance.png", "LLaVA-1.5-7B", "VTC-CLS", 64, "POPE", "f1", 78.8),
        ("llava-1.5-7b.png", "LLaVA-1.5-7B", "VisPruner", 128, "MMVet", "score", 33.7),
        ("llava-next-7b.png", "LLaVA-NeXT-7B", "VisPruner", 160, "GQA", "accuracy", 54.7),
        ("d165972: README", "LLaVA-1.5-7B", "FastV", 288, "MME-Perception", "perception", 1511.7),
        ("c8f9646", "LLaVA-1.5-7B", "baseline", 576, "vqav2", "evaluation_s", 26182.5),
        ("tflops.py", "LLaVA-1.5-13B", "DivPrune", 56, "", "flops_tera", 1.0020),
    ],
)
def test_known_figures(
    source: str, model: str, method: str, tokens: int, benchmark: str, metric: str, value: float
) -> None:
    assert figure(source, model, method, tokens, benchmark, metric) == value


def test_fastervlm_averages_are_the_means_of_their_rows_but_for_four_that_are_marked() -> None:
    off = []
    for (table, _), rows in tables("f5d5f12").items():
        bare = next(row for row in rows.values() if next(iter(row.values())).our_method == "none")
        for (method, _, ratio), row in rows.items():
            average = row.pop(("Average", "relative")) if row is not bare else row["Average", "relative"]
            scores = {key: each for key, each in row.items() if key[0] != "Average"}
            assert len(scores) == 10
            mean = 100 * sum(each.value / bare[key].value for key, each in scores.items()) / 10
            if average.caution:
                off.append((table, method, ratio))
                assert 0.15 < average.value - mean < 0.27
            else:
                assert average.value == pytest.approx(mean, abs=0.011)
    first = [("LLaVA-1.5-7B", "SparseVLM", ratio) for ratio in (0.5, 0.75, 0.9)]
    assert off == [*first, ("LLaVA-NeXT-7B", "SparseVLM", 0.75)]


def test_vispruner_and_vtc_cls_averages_are_the_means_of_their_rows() -> None:
    checked = 0
    for source, name in (("VisPruner e7c1a94: static", "Acc"), ("performance.png", "Avg")):
        for rows in tables(source).values():
            for row in rows.values():
                if (name, "mean") in row:
                    scores = [each for (column, _), each in row.items() if column not in ("Acc", "Rel", "Avg")]
                    values = [each.value / 20 if each.metric == "perception" else each.value for each in scores]
                    # Columns are rounded to 0.1.
                    assert row[name, "mean"].value == pytest.approx(sum(values) / len(values), abs=0.101)
                    checked += 1
    assert checked == 19 + 13 + 9 + 10


@pytest.mark.parametrize(
    "copy, method, tokens, origin, other, at, model",
    [
        ("llava-next-7b.png", "VisPruner", 160, "f5d5f12", "FasterVLM", 145, "LLaVA-NeXT-7B"),
        ("llava-next-7b.png", "FastV", 640, "f5d5f12", "FastV", 720, "LLaVA-NeXT-7B"),
        ("llava-next-7b.png", "FastV", 320, "f5d5f12", "FastV", 290, "LLaVA-NeXT-7B"),
        ("llava-next-7b.png", "FastV", 160, "f5d5f12", "FastV", 145, "LLaVA-NeXT-7B"),
        ("video-llava.png", "FastV", 114, "eca4cd5", "FastV", 104, "Video-LLaVA"),
    ],
)
def test_rows_marked_as_copies_equal_what_they_copy(
    copy: str, method: str, tokens: int, origin: str, other: str, at: int, model: str
) -> None:
    there = {
        (each.benchmark, each.metric): each.value
        for each in LINES
        if origin in each.source and (each.method, each.tokens, each.model) == (other, at, model)
    }
    rows = [each for each in LINES if copy in each.source and (each.method, each.tokens) == (method, tokens)]
    equal = [each for each in rows if (each.benchmark, each.metric) in there]
    assert len(equal) >= 5 and all(f"at {at} tokens" in each.caution for each in rows)
    for each in equal:
        step = 0.01 if each.metric == "rating" else 0.1
        assert abs(each.value - there[each.benchmark, each.metric]) <= step / 2 + 1e-9, each


def test_cautions_that_were_asked_for_are_there() -> None:
    assert all("edited by hand" in each.caution for each in LINES if each.source.startswith("PiToMe"))
    assert all("read off a plot" in each.caution for each in LINES if "ablation_ocrvqa" in each.source)
    assert all("read by eye" in each.caution for each in LINES if "Teaser.png" in each.source)
    assert not any(each.caution for each in LINES if "f5d5f12" in each.source and each.method == "FasterVLM")
