"""Open-ended video questions (Video-ChatGPT, Maaz et al., ACL 2024): a judge says yes or no and rates from 0 to 5.

Used for TGIF-QA, MSVD-QA, MSRVTT-QA and ActivityNet-QA. The protocol is that of its evaluate_activitynet_qa.py; the
wording is ours. The judge was gpt-3.5-turbo in published tables: scores of different judges are not comparable.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import Messages, Protocol, number, verdict

METRIC = Metric("accuracy")

INSTRUCTIONS = """\
You check answers to questions about videos. Say whether the predicted answer means the same as the correct one;
synonyms and paraphrases count as the same. Rate the match with an integer from 0 (none) to 5 (complete). Reply with a
JSON object and nothing else, such as {"pred": "yes", "score": 4}."""


def messages(row: dict[str, Any]) -> Messages:
    """Return the judge's prompt from question, answer and prediction."""
    case = f"Question: {row['question']}\nCorrect answer: {row['answer']}\nPredicted answer: {row['prediction']}"
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": case}]


def parse(reply: str) -> dict[str, float]:
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
    return {"score": float(answer.strip().lower() == "yes"), "rating": float(int(number("score", str(rating), 0, 5)))}


def _read(text: str) -> dict[str, Any]:
    for read in (json.loads, ast.literal_eval):  # a model may quote with ', as Python does
        try:
            data = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # of literal_eval, as documented
            continue
        if isinstance(data, dict):
            return data
    raise ValueError("the {...} is no JSON object")


PROTOCOL = Protocol("video_qa", 1, messages, parse)


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return accuracy: share of "yes"; rating: mean, 0..5."""
    return {
        "accuracy": sum(row["score"] for row in rows) / len(rows),
        "rating": sum(verdict(row)["rating"] for row in rows) / len(rows),
    }
