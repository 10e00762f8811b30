"""Judges' prompts, the replies that are verdicts, and the metrics of judged sets."""

import pytest

from vlmprune.benchmarks.scoring import judge_protocols

ROW = {
    "question": "What is it?",
    "answer": "a dog<OR>a wolf",
    "prediction": "A dog.",
    "extra": {"caption": ["In a park."]},
}


@pytest.mark.parametrize("name", ["llava_wild", "mmvet", "video_qa"])
def test_the_judge_sees_question_reference_and_answer(name):
    system, user = getattr(judge_protocols, f"{name}_messages")(ROW)
    assert system["role"] == "system" and user["role"] == "user"
    assert "What is it?" in user["content"] and "A dog." in user["content"] and "wolf" in user["content"]


def test_the_judge_of_llava_wild_sees_the_description():
    assert "In a park." in judge_protocols.llava_wild_messages(ROW)[1]["content"]


GRADES = [("0.5", 0.5), (" 1.0 ", 1.0), ("0", 0.0), ("-0", 0.0), ("1e-1", 0.1), (".7", 0.7), ("1.", 1.0), ("0.7.", 0.7)]
GRADES += [("Grade: 0.7, because", 0.7), ("0.5 - the half of it", 0.5)]


@pytest.mark.parametrize(("reply", "score"), GRADES)
def test_mmvet_grades(reply, score):
    assert judge_protocols.parse_mmvet(reply) == {"score": score}


NO_GRADES = ["", "good", "1.5", "7", "10", "0.5.1", "-1", "-0.1", "The grade is 0.5", "0,7", "0,5, because", "1e1"]
NO_GRADES += ["1_0", "nan", "inf", "1/10", "1 / 10", "1 out of 10", "1%", "50 %", "0.5-0.7", "0.5 to 0.7", "true"]
NO_GRADES += ["[0.5]", "٠"]


@pytest.mark.parametrize("reply", NO_GRADES)
def test_mmvet_refuses_what_is_no_grade(reply):
    with pytest.raises(ValueError, match="grade"):
        judge_protocols.parse_mmvet(reply)


def test_mmvet_by_capability():
    def row(score, capability):
        return {"score": score, "extra": {"capability": capability}}

    metrics = judge_protocols.summarise_mmvet([row(1.0, "ocr,math"), row(0.5, "ocr"), row(0.0, "rec")])
    assert metrics == {"score": 0.5, "math": 1.0, "ocr": 0.75, "rec": 0.0}


@pytest.mark.parametrize("reply", ["8 6\nBecause ...", "8, 6", "8,6", " 8.0  6.0 \n", "8\t+6", "8 6\r\n"])
def test_llava_wild_ratings(reply):
    assert judge_protocols.parse_llava_wild(reply) == {"reference": 8.0, "model": 6.0, "score": 0.6}


NO_RATINGS = ["", "8", "8 6 4", "0 5", "8 11", "-1 5", "5 -1", "nan 5", "5 inf", "1e1 1e2", "8,5 7,5", "8\n6"]
NO_RATINGS += ["Both are good.\n8 6", "Assistant 1: 8\nAssistant 2: 7", "Ratings: 8 6", "8/10 6/10", "8 6 of 10"]
NO_RATINGS += ["True 6"]


@pytest.mark.parametrize("reply", NO_RATINGS)
def test_llava_wild_refuses_what_is_no_pair(reply):
    with pytest.raises(ValueError, match="ratings"):
        judge_protocols.parse_llava_wild(reply)


def test_llava_wild_is_a_ratio_of_sums():
    def row(category, reference, model):
        return {"category": category, "extra": {"verdict": {"reference": reference, "model": model}}}

    metrics = judge_protocols.summarise_llava_wild(
        [row("conv", 8.0, 6.0), row("conv", 10.0, 3.0), row("detail", 2.0, 3.0)]
    )
    assert metrics == {"relative_score": 0.6, "relative_score_conv": 0.5, "relative_score_detail": 1.5}


@pytest.mark.parametrize(
    "reply",
    [
        '{"pred": "yes", "score": 4}',
        "{'pred': 'Yes', 'score': 4.8}",
        'Sure: {"score": 4, "pred": "yes"}.',
        '{"pred": "yes", "score": "4"}',
        '{"pred": "yes ", "score": " 4.0"}',
        '{"verdict": {"pred": "yes", "score": 4}}',
        '{"pred": "yes", "score": 4} or {"score": "4", "pred": "yes"}',
    ],
)
def test_video_qa_verdicts(reply):
    assert judge_protocols.parse_video_qa(reply) == {"score": 1.0, "rating": 4.0}


@pytest.mark.parametrize(
    "reply",
    [
        "yes",
        "{}",
        '{"pred": "maybe", "score": 4}',
        '{"pred": "yes"}',
        '{"pred": "no", "score": 6}',
        "{1, 2}",
        "{pred: yes}",
        '{"pred": "yes", "score": true}',
        '{"pred": true, "score": 4}',
        '{"pred": ["yes"], "score": 4}',
        '{"pred": "yes", "score": NaN}',
        '{"pred": "yes", "score": Infinity}',
        '{"pred": "yes", "score": 1e999}',
        '{"pred": "yes", "score": -1}',
        '{"pred": "yes", "score": "-1"}',
        '{"pred": "yes", "score": "nan"}',
        '{"pred": "yes", "score": "4/5"}',
        '{"pred": "yes", "score": "four"}',
        '{"pred": "yes", "score": [4]}',
        '{"pred": "yes", "score": null}',
        '{"pred": {"yes": 1}, "score": 4}',
        '{"pred": "yes", "score": 4} {"pred": "no", "score": 0}',
        "{[1], 2}",
        "{[1]: 2}",
        '{"pred": ' + "[" * 100_000 + "}",
    ],
)
def test_video_qa_refuses_what_is_no_verdict(reply):
    with pytest.raises(ValueError, match=r"\{|pred|score"):
        judge_protocols.parse_video_qa(reply)


def test_video_qa_metrics():
    rows = [{"score": s, "extra": {"verdict": {"rating": r}}} for s, r in ((1.0, 5.0), (0.0, 2.0))]
    assert judge_protocols.summarise_video_qa(rows) == {"accuracy": 0.5, "rating": 3.5}
