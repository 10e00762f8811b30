"""MM-Vet (Yu et al., ICML 2024): a judge grades each open answer from 0.0 to 1.0 against the reference.

The protocol is the paper's (section 3.3: graded examples, then question, reference and prediction); its wording and its
examples are ours, so scores are comparable among runs here, and only roughly with the official GPT-4 grader. For that
one, upload the submission file.
"""

from __future__ import annotations

import re
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.protocol import NUMBER, Messages, Protocol, number

_MORE = r"\s*(?:/|%|of\b|out of\b|(?:-|–|to|or|and)\s*[0-9.])"  # rest of a range or a fraction

METRIC = Metric("score")  # the official one is the same times 100

INSTRUCTIONS = """\
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


def messages(row: dict[str, Any]) -> Messages:
    """Return the judge's prompt from question, answer (the reference) and prediction."""
    reference = row["answer"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    case = f"Question: {row['question']} | Reference: {' '.join(reference.split())} | Answer: {row['prediction']} ->"
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": case}]


def parse(reply: str) -> dict[str, float]:
    """Return {"score": 0..1} from a reply that begins with a grade. Raises ValueError, also for "0,7" and "1/10"."""
    found = re.match(rf"\s*(?:grade:?\s*)?({NUMBER})(?:[.,;:!]?(?:\s|$)(?!{_MORE}))", reply, re.IGNORECASE)
    if found is None:
        raise ValueError("no grade from 0.0 to 1.0 at the beginning")
    return {"score": number("grade", found[1], 0, 1)}


PROTOCOL = Protocol("mmvet", 1, messages, parse)


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
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
