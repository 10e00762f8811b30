"""Protocols of judged benchmarks: LLaVA-Bench in the wild, MM-Vet, and open-ended video questions.

LLaVA-Bench in the wild (Liu et al., NeurIPS 2023): a judge rates the answer beside a reference, both from 1 to 10.

The protocol is the paper's (section 5.1): the judge reads a description of the image, the question, the reference
answer of text-only GPT-4 and the model's answer, and rates both; the score is the ratio of the ratings' sums. The
wording is ours.

MM-Vet (Yu et al., ICML 2024): a judge grades each open answer from 0.0 to 1.0 against the reference.

The protocol is the paper's (section 3.3: graded examples, then question, reference and prediction); its wording and its
examples are ours, so scores are comparable among runs here, and only roughly with the official GPT-4 grader. For that
one, upload the submission file.

Open-ended video questions (Video-ChatGPT, Maaz et al., ACL 2024): a judge says yes or no and rates from 0 to 5.

Used for TGIF-QA, MSVD-QA, MSRVTT-QA and ActivityNet-QA. The protocol is that of its evaluate_activitynet_qa.py; the
wording is ours. The judge was gpt-3.5-turbo in published tables: scores of different judges are not comparable.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from vlmprune.benchmarks.base import NUMBER, Messages, Metric, Protocol, parse_number, verdict_of

LLAVA_WILD_METRIC = Metric(
    "relative_score", 0.1, 10.0
)  # 1.0: rated like the reference; the official one is the same times 100

LLAVA_WILD_INSTRUCTIONS = """\
Two assistants answered a question about an image, which is described to you in a few sentences. Rate each answer from 1
to 10 for helpfulness, relevance, accuracy and level of detail; higher is better. The order of the answers must not
matter. Write the two ratings on the first line, that of assistant 1 first, separated by a space and without any other
text; explain them from the second line on."""


def llava_wild_messages(row: dict[str, Any]) -> Messages:
    """Return the judge's prompt of question, answer (the reference), prediction and extra["caption"] (of the image)."""
    caption = row["extra"]["caption"]
    context = "\n".join(caption) if isinstance(caption, list) else caption
    case = (
        f"[Image]\n{context}\n\n[Question]\n{row['question']}\n\n[Assistant 1]\n{row['answer']}\n\n"
        f"[Assistant 2]\n{row['prediction']}\n\n[End]"
    )
    return [{"role": "system", "content": LLAVA_WILD_INSTRUCTIONS}, {"role": "user", "content": case}]


def parse_llava_wild(reply: str) -> dict[str, float]:
    """Return {"reference", "model": 1..10, "score": the model's rating / 10} from a reply's first line of two ratings.

    Raises ValueError if the first line holds anything else.
    """
    first_line = (reply.strip().splitlines() or [""])[0]
    words = first_line.replace(",", " ").split()  # as published: "8,5" are two ratings
    if len(words) != 2:
        raise ValueError("the first line is not two ratings from 1 to 10")
    reference, model = (parse_number("one of the ratings,", word, 1, 10) for word in words)
    return {"reference": reference, "model": model, "score": model / 10}


LLAVA_WILD_PROTOCOL = Protocol("llava_wild", 1, llava_wild_messages, parse_llava_wild)


def summarise_llava_wild(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return relative_score: sum of the model's ratings / sum of the references'; the same for each category."""
    metrics = {"relative_score": _ratio(rows)}
    for name in sorted({row["category"] for row in rows}):
        metrics[f"relative_score_{name}"] = _ratio([row for row in rows if row["category"] == name])
    return metrics


def _ratio(rows: list[dict[str, Any]]) -> float:
    return sum(verdict_of(row)["model"] for row in rows) / sum(verdict_of(row)["reference"] for row in rows)


_MORE = r"\s*(?:/|%|of\b|out of\b|(?:-|–|to|or|and)\s*[0-9.])"  # rest of a range or a fraction

MMVET_METRIC = Metric("score")  # the official one is the same times 100

MMVET_INSTRUCTIONS = """\
You grade answers that were given to questions about images. Compare the answer with the reference and give a grade from
0.0 (wrong) to 1.0 (right), in steps of 0.1. In a reference, <AND> joins parts that must all be there, and <OR> joins
alternatives of which one is enough. Give part of the grade for part of the content; wording and length do not matter.
Reply with the grade alone.

Question: Which numbers are on the two doors? | Reference: 12 <AND> 14 | Answer: 3 -> 0.0
Question: Which numbers are on the two doors? | Reference: 12 <AND> 14 | Answer: 12 and 15 -> 0.5
Question: Which numbers are on the two doors? | Reference: 12 <AND> 14 | Answer: They are 14 and 12. -> 1.0
Question: What is the animal? | Reference: donkey <OR> mule | Answer: a mule -> 1.0
Question: Why is the sign funny? | Reference: It forbids swimming in the middle of a desert, where there is no water. |
Answer: It is a sign that says no swimming. -> 0.4"""


def mmvet_messages(row: dict[str, Any]) -> Messages:
    """Return the judge's prompt from question, answer (the reference) and prediction."""
    reference = row["answer"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    case = f"Question: {row['question']} | Reference: {' '.join(reference.split())} | Answer: {row['prediction']} ->"
    return [{"role": "system", "content": MMVET_INSTRUCTIONS}, {"role": "user", "content": case}]


def parse_mmvet(reply: str) -> dict[str, float]:
    """Return {"score": 0..1} from a reply that begins with a grade. Raises ValueError, also for "0,7" and "1/10"."""
    found = re.match(rf"\s*(?:grade:?\s*)?({NUMBER})(?:[.,;:!]?(?:\s|$)(?!{_MORE}))", reply, re.IGNORECASE)
    if found is None:
        raise ValueError("no grade from 0.0 to 1.0 at the beginning")
    return {"score": parse_number("grade", found[1], 0, 1)}


MMVET_PROTOCOL = Protocol("mmvet", 1, mmvet_messages, parse_mmvet)


def summarise_mmvet(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return score: mean grade; and one for each capability (rec, ocr, know, gen, spat, math) over rows that need it.

    Reads extra["capability"], several joined by commas.
    """
    metrics = {"score": sum(row["score"] for row in rows) / len(rows)}
    needed = {name: _capabilities(row) for row in rows for name in _capabilities(row)}
    for name in sorted(needed):
        grades = [row["score"] for row in rows if name in _capabilities(row)]
        metrics[name] = sum(grades) / len(grades)
    return metrics


def _capabilities(row: dict[str, Any]) -> list[str]:
    return [name.strip() for name in row["extra"]["capability"].split(",")]


VIDEO_QA_METRIC = Metric("accuracy")

VIDEO_QA_INSTRUCTIONS = """\
You check answers to questions about videos. Say whether the predicted answer means the same as the correct one;
synonyms and paraphrases count as the same. Rate the match with an integer from 0 (none) to 5 (complete). Reply with a
JSON object and nothing else, such as {"pred": "yes", "score": 4}."""


def video_qa_messages(row: dict[str, Any]) -> Messages:
    """Return the judge's prompt from question, answer and prediction."""
    case = f"Question: {row['question']}\nCorrect answer: {row['answer']}\nPredicted answer: {row['prediction']}"
    return [{"role": "system", "content": VIDEO_QA_INSTRUCTIONS}, {"role": "user", "content": case}]


def parse_video_qa(reply: str) -> dict[str, float]:
    """Return {"score": 1 for yes, 0 for no; "rating": 0..5} from the JSON object or Python dictionary in the reply.

    Raises ValueError for another reply, and for objects that differ: one may be the example of the instructions.
    """
    verdicts = [_verdict(text) for text in re.findall(r"\{[^{}]*\}", reply)]
    if not verdicts or any(verdict != verdicts[0] for verdict in verdicts):
        raise ValueError("no {...} in the reply" if not verdicts else "several {...} in the reply, which differ")
    return verdicts[0]


def _verdict(text: str) -> dict[str, float]:
    data = _read(text)
    answer, rating = data.get("pred"), data.get("score")
    if not isinstance(answer, str) or answer.strip().lower() not in ("yes", "no"):
        raise ValueError("pred is not yes or no")
    if isinstance(rating, bool) or not isinstance(rating, int | float | str):
        raise ValueError("score is not a number")
    # As published, 4.8 is 4. A judge may write "4".
    return {
        "score": float(answer.strip().lower() == "yes"),
        "rating": float(int(parse_number("score", str(rating), 0, 5))),
    }


def _read(text: str) -> dict[str, Any]:
    for read in (json.loads, ast.literal_eval):  # a model may quote with ', as Python does
        try:
            data = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # of literal_eval, as documented
            continue
        if isinstance(data, dict):
            return data
    raise ValueError("the {...} is no JSON object")


VIDEO_QA_PROTOCOL = Protocol("video_qa", 1, video_qa_messages, parse_video_qa)


def summarise_video_qa(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return accuracy: share of "yes"; rating: mean, 0..5."""
    return {
        "accuracy": sum(row["score"] for row in rows) / len(rows),
        "rating": sum(verdict_of(row)["rating"] for row in rows) / len(rows),
    }
