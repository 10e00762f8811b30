"""LLaVA-Bench in the wild (Liu et al., NeurIPS 2023): a judge rates the answer beside a reference, both from 1 to 10.

The protocol is the paper's (section 5.1): the judge reads a description of the image, the question, the reference
answer of text-only GPT-4 and the model's answer, and rates both; the score is the ratio of the ratings' sums. The
wording is ours.
"""

from __future__ import annotations

from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import Messages, Protocol, number, verdict

METRIC = Metric("relative_score", 0.1, 10.0)  # 1.0: rated like the reference; the official one is the same times 100

INSTRUCTIONS = """\
Two assistants answered a question about an image, which is described to you in a few sentences. Rate each answer from 1
to 10 for helpfulness, relevance, accuracy and level of detail; higher is better. The order of the answers must not
matter. Write the two ratings on the first line, that of assistant 1 first, separated by a space and without any other
text; explain them from the second line on."""


def messages(row: dict[str, Any]) -> Messages:
    """Return the judge's prompt of question, answer (the reference), prediction and extra["caption"] (of the image)."""
    caption = row["extra"]["caption"]
    context = "\n".join(caption) if isinstance(caption, list) else caption
    case = (
        f"[Image]\n{context}\n\n[Question]\n{row['question']}\n\n[Assistant 1]\n{row['answer']}\n\n"
        f"[Assistant 2]\n{row['prediction']}\n\n[End]"
    )
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": case}]


def parse(reply: str) -> dict[str, float]:
    """Return {"reference", "model": 1..10, "score": the model's rating / 10} from a reply's first line of two ratings.

    Raises ValueError if the first line holds anything else.
    """
    first_line = (reply.strip().splitlines() or [""])[0]
    words = first_line.replace(",", " ").split()  # as published: "8,5" are two ratings
    if len(words) != 2:
        raise ValueError("the first line is not two ratings from 1 to 10")
    reference, model = (number("one of the ratings,", word, 1, 10) for word in words)
    return {"reference": reference, "model": model, "score": model / 10}


PROTOCOL = Protocol("llava_wild", 1, messages, parse)


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return relative_score: sum of the model's ratings / sum of the references'; the same for each category."""
    metrics = {"relative_score": _ratio(rows)}
    for name in sorted({row["category"] for row in rows}):
        metrics[f"relative_score_{name}"] = _ratio([row for row in rows if row["category"] == name])
    return metrics


def _ratio(rows: list[dict[str, Any]]) -> float:
    return sum(verdict(row)["model"] for row in rows) / sum(verdict(row)["reference"] for row in rows)
