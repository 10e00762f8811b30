"""Values that are missing, however data say so: no option, hint, category or image; and answers that only look so."""

from __future__ import annotations

import json
import math

import pyarrow.parquet
import pytest

from tests.benchmarks.fixtures import ROWS, mmbench
from tests.benchmarks.loading import make
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.columns import answer_texts, has_value, id_text, scalar_text

HUB = {"hint": "nan", "C": "nan", "D": "nan"}  # as lmms-lab/MMBench has a question with two options


def load(tmp_path, name, *rows):
    # Texts alone: of no row here is the picture asked for.
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([row | {"image": b"x"} for row in rows]), tmp_path / "test.parquet"
    )
    benchmark = make(name, path=f"{tmp_path}/test.parquet")
    return benchmark, benchmark.load()


@pytest.mark.parametrize("name", ["mmbench", "mmbench_cn"])
@pytest.mark.parametrize(("third", "lines"), [("nan", "A. yes\nB. no"), ("blue", "A. yes\nB. no\nC. blue")])
def test_mmbench_has_two_or_three_options(name, third, lines, tmp_path):
    benchmark, (sample,) = load(tmp_path, name, mmbench(0) | HUB | {"C": third})
    assert benchmark.prompt(sample) == f"Which one?\n{lines}{benchmark.suffix}"
    assert len(sample.extra["choices"]) == lines.count("\n") + 1
    assert benchmark.score("D", sample) == benchmark.score("nan", sample) == 0 and benchmark.score("A", sample) == 1


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "", " ", None])
def test_a_gap_keeps_the_letters_after_it(missing, tmp_path):
    benchmark, (sample,) = load(tmp_path, "mmbench", mmbench(0) | HUB | {"C": missing, "D": "blue", "answer": "D"})
    assert "\nB. no\nD. blue\n" in benchmark.prompt(sample) and "C." not in benchmark.prompt(sample)
    assert benchmark.score("D", sample) == benchmark.score("blue", sample) == 1


def test_the_option_that_the_answer_names_is_there(tmp_path):
    row = mmbench(0) | HUB | {"A": "None", "B": "One"}
    _, samples = load(tmp_path, "mmbench", row | {"answer": "A"}, row | {"index": 1, "answer": "B"})
    assert samples[0].extra["choices"] == ["None", "One"]
    assert samples[1].extra["choices"] == ["", "One"]  # LLaVA's script reads it as none


def test_none_is_an_option_of_seed_and_an_answer_of_okvqa(tmp_path):
    _, (sample,) = load(tmp_path, "seed", ROWS["seed"](0) | {"choice_a": "None", "choice_d": "nan"})
    assert sample.extra["choices"] == ["None", "1", "2"]
    for answer in ("none", "nan", "None"):
        _, (sample,) = load(tmp_path, "okvqa", ROWS["okvqa"](0) | {"answers": [answer] * 10})
        assert sample.answer == answer and sample.extra["answers"] == [answer] * 10


def test_a_list_of_options_holds_what_it_says(tmp_path):
    row = ROWS["ai2d"](0) | {"options": ["nan", "None", "0", "1"], "answer": "0"}
    benchmark, (sample,) = load(tmp_path, "ai2d", row)
    assert "A. nan\nB. None\n" in benchmark.prompt(sample) and benchmark.score("nan", sample) == 1


@pytest.mark.parametrize(("hint", "written"), [("nan", ""), (None, ""), ("", ""), ("none", ""), ("Sky.", "Sky.\n")])
def test_hints(hint, written, tmp_path):
    benchmark, (sample,) = load(tmp_path, "mmbench", mmbench(0) | HUB | {"hint": hint, "category": "nan"})
    assert benchmark.prompt(sample).startswith(f"{written}Which one?") and sample.category == "all"


def test_answers_of_a_test_split_may_be_missing_as_text(tmp_path):
    _, samples = load(tmp_path, "mmbench", *(mmbench(k) | {"answer": "nan"} for k in range(2)))
    assert [sample.answer for sample in samples] == ["", ""]


def test_a_missing_second_answer(tmp_path, videos, words):
    for k, other in enumerate((None, "nan", "for fun")):
        rows = [ROWS["nextqa_oe"](0) | {"additional_ref_answer": other}]
        (tmp_path / f"{k}.json").write_text(json.dumps(rows))
        (sample,) = make("nextqa_oe", path=f"{tmp_path}/{k}.json", videos=str(videos)).load()
        assert sample.extra["answers"] == (["to play", "for fun"] if k == 2 else ["to play"])


def test_ocr_tokens_and_numbers_as_tables_have_them(tmp_path):
    row = ROWS["textvqa_ocr"](0) | {"ocr_tokens": ["STOP", None], "image_id": 7.0}
    benchmark, (sample,) = load(tmp_path, "textvqa_ocr", row)
    assert "token: STOP\n" in benchmark.prompt(sample) and sample.image_id == "7"
    _, (sample,) = load(tmp_path, "scienceqa", ROWS["scienceqa"](0) | {"answer": 1.0, "choices": ["a", "b"]})
    assert sample.answer == "B"


@pytest.mark.parametrize("value", [None, math.nan, "", " \n", [], [None, math.nan, ""], {}, b""])
def test_absent(value):
    assert has_value(value) is False


@pytest.mark.parametrize("value", [0, False, "nan", [None, "x"], b"x"])
def test_present(value):
    assert has_value(value) is True


def test_texts_of_answers():
    assert answer_texts(["a", None, math.nan, 3.0, {"answer": "b"}, ""]) == ["a", "3", "b", ""]
    assert answer_texts({"answer": ["a"]}) == answer_texts("a") == ["a"] and answer_texts(None) == []
    for value in (True, [True], [["a"]], {"text": "a"}, [{"label": "a"}]):
        with pytest.raises(BadSample, match="is or holds"):
            answer_texts(value)


def test_ids_as_numbers_and_texts_are_one():
    assert id_text([5.0, None, "x", math.nan]) == "5/x" and id_text(math.nan) == ""
    assert scalar_text(5) == scalar_text("5") == scalar_text(5.0) == "5" and scalar_text(0.5) == "0.5"
