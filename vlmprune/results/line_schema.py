"""Schemas of a run directory's files except result.json: a line of each, and environment.json.

Fields are in the order in which they are written, so that a line that is read and written again is the same.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from vlmprune.typed_json import STRICT, Amount, Count

Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]


@with_config(STRICT | ConfigDict(extra="ignore"))  # reads in a third of the time
class Scored(TypedDict):
    """A line of predictions.jsonl, with the fields by which runs are compared."""

    id: str
    image_id: str
    category: NotRequired[str]
    score: Annotated[Amount | None, Field(description="null until the answer is judged")]


@with_config(STRICT)
class Verdict(TypedDict):
    """The verdict in a judge's reply; a protocol may add fields."""

    score: Amount


@with_config(STRICT)
class Extra(TypedDict):
    """Fields of a benchmark that its scorer reads beside the answer, and the verdict of a judge."""

    verdict: NotRequired[Verdict]


@with_config(STRICT)
class Answered(TypedDict):
    """A line of predictions.jsonl, with the fields by which it can be scored again."""

    id: str
    image_id: str
    category: str
    question: str
    prompt: NotRequired[str]
    answer: str
    prediction: str
    score: NotRequired[Amount | None]
    extra: NotRequired[Extra]
    images: Annotated[NotRequired[Count], Field(description="pictures, or frames")]


@with_config(STRICT)
class EncodedLine(TypedDict):
    """Sizes of the vision encoder's input for one question (models.base.EncoderInput)."""

    slots: Count
    newlines: Count
    tiles: list[Pair]
    projected: Count
    units: list[list[Count]]


@with_config(STRICT)
class Prediction(Answered):
    """A whole line of predictions.jsonl, as a run reads it to resume or to count FLOPs again."""

    encoded: EncodedLine
    sequence: Annotated[Count, Field(description="tokens of the prompt at decoder layer 0")]
    visual: Annotated[
        list[Pair],
        Field(min_length=1, description="visual tokens as (first layer, tokens) wherever the number changes"),
    ]
    positions: Annotated[NotRequired[Count], Field(description="older lines lack it")]
    generated: Annotated[Count, Field(description="new tokens")]
    prompt_template: NotRequired[str]


def _fewer_by_layer(row: Prediction) -> Prediction:
    first, *more = row["visual"]
    if not more and first[0] == 0 and first[1] <= row["encoded"]["slots"]:  # the fast path, for most lines
        return row
    if "score" not in row:
        raise ValueError("score is missing")
    layers, counts = [layer for layer, _ in row["visual"]], [count for _, count in row["visual"]]
    if layers[0] != 0 or layers != sorted(set(layers)):
        raise ValueError(f"visual={row['visual']}: layers start at 0 and increase")
    if max(counts) > row["encoded"]["slots"]:
        raise ValueError(f"visual={row['visual']}: more tokens than encoded.slots={row['encoded']['slots']}")
    return row


PredictionLine = Annotated[Prediction, AfterValidator(_fewer_by_layer)]


class Kept(TypedDict):
    """A line of kept.jsonl: of one image, or of one question."""

    id: NotRequired[str]
    image_id: NotRequired[str]
    n: Annotated[Count, Field(le=2**24, description="visual slots of the prompt")]
    kept: Annotated[
        str, Field(pattern="^[0-9a-f]+$", description="one bit per slot as hex, the first slot the highest")
    ]


def _as_many_bits(row: Kept) -> Kept:
    if not (row.get("id") or row.get("image_id")):
        raise ValueError("it names neither a question by id nor a picture by image_id")
    if len(row["kept"]) != max(1, -(-row["n"] // 4)) or int(row["kept"], 16) >> row["n"]:
        raise ValueError(f"kept={row['kept'][:40]} has not n={row['n']} bits")
    return row


KeptLine = Annotated[Kept, AfterValidator(_as_many_bits)]


@with_config(STRICT)
class LeftOut(TypedDict):
    """A line of bad.jsonl: a sample that was left out, and the reason."""

    id: str
    reason: str


@with_config(STRICT)
class Environments(TypedDict):
    """environment.json: the environments in which the parts of a run were computed."""

    fingerprint: str
    environments: list[dict[str, Any]]
