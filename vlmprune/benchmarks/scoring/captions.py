"""CIDEr-D (Vedantam et al., CVPR 2015) of captions by pycocoevalcap, as in tables of COCO, NoCaps and Flickr30k.

A caption's n-grams are compared with the references', and rare ones weigh more; their frequency is counted in the
references of the same set. So CIDEr is a number of a set, not a mean of independent answers, and that of a subset is
not comparable with that of the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprune.benchmarks.scoring.metric import Metric
from vlmprune.benchmarks.scoring.ptb import find_jar, java_tokens, tokens
from vlmprune.errors import UserError

METRIC = Metric("cider", 0.0, 10.0)  # tables show it times 100: 1.1 is "110"


def tokeniser() -> str:
    """Return the name of the tokeniser that `summarise` uses on this machine."""
    return "CoreNLP 3.4.1" if find_jar() else "vlmprune's port of CoreNLP's"


def summarise(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return cider: 0..10.

    Reads extra["answers"], the reference captions. Raises UserError without pycocoevalcap.
    """
    return cider(rows, find_jar())


def cider(rows: list[dict[str, Any]], jar: Path | None) -> dict[str, float]:
    """Return `summarise`'s metric by CoreNLP's tokeniser in `jar`, or by the port of it (ptb.py) if that is None."""
    try:
        from pycocoevalcap.cider.cider import Cider
    except ImportError as error:
        raise UserError(
            f"CIDEr needs pycocoevalcap ({error}): pip install 'vlmprune[captions]', then vlmprune score"
        ) from error
    captions = [row["prediction"] for row in rows]
    references = [row["extra"]["answers"] for row in rows]
    flat = captions + [text for texts in references for text in texts]
    tokenised = [" ".join(words) for words in (java_tokens(flat, jar) if jar else map(tokens, flat))]
    rest = iter(tokenised[len(captions) :])
    predicted = {index: [text] for index, text in enumerate(tokenised[: len(captions)])}
    expected = {index: [next(rest) for _ in texts] for index, texts in enumerate(references)}
    score, _ = Cider().compute_score(expected, predicted)
    return {"cider": float(score)}
