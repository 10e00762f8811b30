"""Open-ended video questions (Video-ChatGPT, Maaz et al., ACL 2024): a judge says yes or no, and how well from 0 to 5.

Used for TGIF-QA, MSVD-QA, MSRVTT-QA and ActivityNet-QA. The protocol is that of its evaluate_activitynet_qa.py; the
wording is ours. The judge was gpt-3.5-turbo in published tables: scores of different judges are not comparable.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import Messages, Protocol, verdict

METRIC = Metric("accuracy")

INSTRUCTIONS = """\
You check answers to questions about videos. Say whether the predicted answer means the same as the correct one;
synonyms and paraphrases count as the same. Rate the match with an integer from 0 (none) to 5 (complete). Reply with a
JSON object and nothing else, such as {"pred": "yes", "score": 4}."""


def messages(row: dict[str, Any]) -> Messages:
    """Reads question, answer and prediction."""
    case = f"Question: {row['question']}\nCorrect answer: {row['answer']}\nPredicted answer: {row['prediction']}"
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": case}]


def parse(reply: str) -> dict[str, float]:
    """{"score": 1 for yes, 0 for no; "rating": 0..5} from a JSON object or a Python dictionary in the reply."""
    found = re.search(r"\{[^{}]*\}", reply)
    if found is None:
        raise ValueError("no {...} in the reply")
    data = _read(found[0])
    answer, rating = str(data.get("pred")).strip().lower(), data.get("score")
    if answer not in ("yes", "no") or isinstance(rating, bool) or not isinstance(rating, int | float):
        raise ValueError("pred is not yes or no, or score is not a number")
    if not 0 <= rating <= 5:
        raise ValueError("score is not from 0 to 5")
    return {"score": float(answer == "yes"), "rating": float(int(rating))}  # as published: 4.8 is 4


def _read(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        data = ast.literal_eval(text)  # models that were shown Python quote with '
    except (SyntaxError, ValueError) as error:
        raise ValueError("the {...} cannot be read") from error
    if not isinstance(data, dict):
        raise ValueError("the {...} is not an object")
    return data


PROTOCOL = Protocol("video_qa", 1, messages, parse)


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """accuracy: share of "yes"; rating: mean, 0..5."""
    return {
        "accuracy": sum(row["score"] for row in rows) / len(rows),
        "rating": sum(verdict(row)["rating"] for row in rows) / len(rows),
    }
