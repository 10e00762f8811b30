"""published.csv is sound, and `compare --published` puts the right runs beside it."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic import make_run
from vlmprune.errors import UserError
from vlmprune.registry import options, read
from vlmprune.report.compare import compare
from vlmprune.report.published import PRINTED, Published, read_published

LINES = read_published()
MODEL = {"model": "llava-1.5-7b", "benchmark": "gqa"}


def figure(source: str, model: str, method: str, tokens: int, benchmark: str, metric: str) -> float:
    """The one figure that is meant."""
    meant = (model, method, tokens, benchmark, metric)
    (found,) = [
        each.value
        for each in LINES
        if source in each.source and (each.model, each.method, each.tokens, each.benchmark, each.metric) == meant
    ]
    return found


def tables(source: str) -> dict[tuple[str, str], dict[tuple[Any, ...], dict[str, Published]]]:
    """(table, model) -> row -> column -> line, of the sources that `source` is part of."""
    found: dict[Any, Any] = defaultdict(lambda: defaultdict(dict))
    for each in LINES:
        if source in each.source:
            row = (each.method, each.variant, each.ratio)
            found[each.table, each.model][row][each.benchmark, each.metric] = each
    return found


def test_columns_are_the_fields_and_every_line_is_sound() -> None:
    with (files("vlmprune.report") / "published.csv").open(encoding="utf-8") as text:
        assert next(csv.reader(text)) == [field.name for field in fields(Published)]
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
        assert {getattr(each, f"our_{group}") for each in LINES} - {""} <= options(group).keys()
    for setting, method, model in {(s, each.our_method, each.our_model) for each in LINES for s in each.settings}:
        group, _, name = setting.partition(".")
        if name and (choice := {"method": method, "model": model}[group]):
            assert name in read(group, choice), setting
        assert name or setting == "budget"


def test_scores_that_are_compared_are_metrics_of_the_benchmark() -> None:
    info = {each: read("benchmark", each)["info"] for each in {each.our_benchmark for each in LINES} - {""}}
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


def pairs(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[dict[str, Any]], list[str]]:
    assert compare(["--published", "format=json", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    return report["pairs"], report["notes"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Unpruned, and two methods at a published ratio, of a published model and benchmark."""
    make_run(tmp_path, "none", **MODEL)
    make_run(tmp_path, "cls", 0.9, settings={"keep_order": "spatial"}, **MODEL)
    make_run(tmp_path, "fastv", 0.5, settings={"k": 2}, **MODEL)
    return tmp_path


def test_a_run_stands_beside_the_figure_of_the_same_thing(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, notes = pairs(capsys, str(outputs), "method=cls")
    (pair,) = found
    result = json.loads((Path(pair["path"]) / "result.json").read_text())
    assert (pair["method"], pair["published_method"], pair["published"]) == ("cls", "FasterVLM", 54.91)
    assert pair["ours"] == pytest.approx(100 * result["answers"]["score"])
    assert pair["difference"] == pytest.approx(pair["ours"] - 54.91)
    assert [pair["ours_low"], pair["ours_high"]] == pytest.approx([100 * x for x in result["answers"]["interval95"]])
    assert pair["published_relative"] == pytest.approx(54.91 / 61.94)
    assert 0.5 < pair["relative"] < 1.1
    assert len(notes) == 1 and "vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=" in notes[0]


def test_unpruned_and_blind_runs_have_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "none", **MODEL)
    make_run(tmp_path, "random", 1.0, **MODEL)
    found, _ = pairs(capsys, str(tmp_path))
    unpruned = {pair["published"] for pair in found if pair["method"] == "none"}
    assert unpruned == {61.94, 62.0, 61.93, 61.9}
    (blind,) = [pair for pair in found if pair["method"] == "random"]
    assert blind["published"] == 37.38 and blind["published_tokens"] == 0


@pytest.mark.parametrize(
    "method, settings, said",
    [
        ("fastv", {"k": 3}, "method.k=3 (published: 2)"),
        ("cls", {"keep_order": "score"}, "method.keep_order=score (published: spatial)"),
    ],
)
def test_other_settings_are_named_not_compared(
    outputs: Path, capsys: pytest.CaptureFixture[str], method: str, settings: dict[str, Any], said: str
) -> None:
    other = make_run(outputs, method, 0.9 if method == "cls" else 0.25, seed=1, settings=settings, **MODEL)
    found, notes = pairs(capsys, str(outputs))
    assert str(other) not in {pair["path"] for pair in found}
    assert [note for note in notes if str(other) in note and said in note]


def test_fastv_of_k_3_is_that_of_lmms_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "fastv", 0.5, settings={"k": 3}, **MODEL)
    (pair,) = pairs(capsys, str(tmp_path))[0]
    assert pair["published"] == 60.4 and pair["published_variant"] == "K=3" and pair["relative"] is None


def change(path: Path, config: dict[str, Any], **result: Any) -> None:
    """Replace parts of a run's config.yaml and result.json."""
    (path / "config.yaml").write_text(json.dumps(config))
    (path / "result.json").write_text(json.dumps(json.loads((path / "result.json").read_text()) | result))


def test_a_schedule_counts_by_its_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, retain in enumerate((128, 192)):
        path = make_run(tmp_path, "none", seed=seed, **MODEL)
        change(path, {"method": {"retain": retain}, "budget": "published"}, method="sparsevlm")
    found, notes = pairs(capsys, str(tmp_path))
    (pair,) = found
    assert (pair["published"], pair["published_tokens"]) == (56.0, 128)
    assert "method.retain=192 (published: 128)" in notes[0]


def test_averaged_budgets_are_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, budget in enumerate(("published", "average")):
        path = make_run(tmp_path, "fastv", 0.5, seed=seed, settings={"k": 2}, **MODEL)
        change(path, {"method": {"k": 2} if seed == 0 else {}, "budget": budget}, method=("fastv", "sparsevlm")[seed])
    found, _ = pairs(capsys, str(tmp_path))
    assert {(pair["published_method"], pair["published"]) for pair in found} == {("FastV", 60.05), ("SparseVLM", 58.78)}
    change(path, {"method": {}, "budget": "published"})
    assert {pair["published_method"] for pair in pairs(capsys, str(tmp_path))[0]} == {"FastV"}


@pytest.mark.parametrize("kept, values", [(58, {54.91}), (59, set()), (128, {58.2})])
def test_kept_tokens_stand_for_a_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int, values: set[float]
) -> None:
    make_run(tmp_path, "none", **MODEL)  # always has figures beside it
    path = make_run(tmp_path, "cls", 0.9, **MODEL)
    method = "vtc_cls" if kept == 128 else "cls"
    answers = json.loads((path / "result.json").read_text())["answers"]
    answers["tokens"]["kept"]["mean"] = float(kept)
    change(path, {"method": {}}, answers=answers, ratio=None, keep=kept, method=method)
    assert {pair["published"] for pair in pairs(capsys, str(tmp_path))[0] if pair["method"] != "none"} == values


def test_mme_and_f1_are_in_their_printed_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run(tmp_path, "cls", 0.75, model="llava-1.5-7b", benchmark="mme")
    result = json.loads((path / "result.json").read_text())
    answers = {"metric": "perception", "score": 0.7, "interval95": [0.65, 0.75], "metrics": {"perception": 1400.0}}
    (path / "result.json").write_text(json.dumps(result | {"answers": result["answers"] | answers}))
    (pair,) = pairs(capsys, str(tmp_path))[0]
    assert pair["published"] == 1433.76 and pair["difference"] == pytest.approx(1400 - 1433.76)
    assert [pair["ours_low"], pair["ours_high"]] == pytest.approx([1300, 1500])
    assert PRINTED["f1"] == 100


def test_table_shows_difference_and_caution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subset = {"subset": "limit=320"}
    make_run(tmp_path, "visionzip", 0.8889, model="llava-1.5-7b", benchmark="scienceqa", comparable=subset)
    for style in ("table", "markdown"):
        assert compare(["--published", str(tmp_path), f"format={style}"]) == 0
        out = capsys.readouterr().out
        assert "VisionZip (visionzip)" in out and " 69 " in out and "[1]" in out
        text = " ".join(out.split())
        assert "CAUTION: the unpruned 66.8 beside it is of LLaVA's paper, FasterVLM measured 69.51; equals" in text
        assert "ours: 320 questions (limit=320), published: all" in text
        assert "next: vlmprune run model=llava-1.5-7b benchmark=scienceqa method=" in text


def test_csv_is_one_line_a_pair(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["--published", "format=csv", str(outputs)]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert {row["published_method"] for row in rows} >= {"FasterVLM", "FastV", "LLaVA-1.5-7B"}
    assert "the next: vlmprune run" in captured.err


def test_without_a_pair_one_line_says_what_to_run(tmp_path: Path) -> None:
    make_run(tmp_path, "cls", 0.9)
    with pytest.raises(
        UserError, match=r"none of these runs \(1\) is .*; the next: vlmprune run model=.* method=cls"
    ) as caught:
        compare(["--published", str(tmp_path)])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="give one of the two"):
        compare(["--published", str(tmp_path), "chart=x.png"])
    with pytest.raises(UserError, match="did you mean '--published'"):
        compare(["--publish", str(tmp_path)])
