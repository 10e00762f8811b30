"""CIDEr of image captions, and the Penn Treebank tokens that it is computed on.

CIDEr-D (Vedantam et al., CVPR 2015) of captions by pycocoevalcap, as in tables of COCO, NoCaps and Flickr30k.

A caption's n-grams are compared with the references', and rare ones weigh more; their frequency is counted in the
references of the same set. So CIDEr is a number of a set, not a mean of independent answers, and that of a subset is
not comparable with that of the whole.

Penn Treebank tokens of English captions, from which caption scores are computed: by Stanford's tokeniser or a port.

`java_tokens` runs the PTBTokenizer of CoreNLP 3.4.1, whose jar ships with pycocoevalcap; `tokens` is a port of its
rules for captions, for machines without Java. Punctuation is dropped, as in pycocoevalcap, so the direction of quotes
does not matter.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmprune.benchmarks.base import Metric
from vlmprune.errors import UserError

# pycocoevalcap lists brackets in capitals, but the tokeniser gives them in lower case: "-lrb-" stays, as in its scores.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
JAVA_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
JAR = "stanford-corenlp-3.4.1.jar"

_PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": " -- ", "\u2014": " -- ", "\u2026": " ... "}
    | {"\u00a3": "#", "\u20ac": "$", "\u00bd": " 1/2 ", "\u00bc": " 1/4 ", "\u00be": " 3/4 ", "\u00a0": " "}
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_TWO_WORDS = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na"} | {
    "lemme": "lem me",
    "gimme": "gim me",
    "'tis": "'t is",
    "'twas": "'t was",
    "y'all": "y' all",
}
_CONTRACTED = re.compile(r"(?<=[a-z])n't(?![a-z])|(?<=[^\W_])'(?:s|ll|re|ve|d|m)(?![^\W_])", re.IGNORECASE)
_ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|prof|rev|gov|gen|sen|rep|col|capt|lt|sgt|st|mt|ft|ave|blvd|rd|jr|sr|vs|etc|co|corp|inc|ltd|bros"
    "|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri|calif|fla|tex|wash|dept|univ|est"
)
_TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)[^\s"<>]*[^\s"<>.,;:!?()'\[\]]   # a link
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                       # an address
    | @\w+ | <[a-z/][^<>\s]*>                            # @name, <tag>
    | n't(?![a-z]) | '(?:s|ll|re|ve|d|m|t)(?![^\W_])     # split off above
    | 'n' | 'n(?![a-z]) | 'em\b | 'cause\b | '[2-9]0s | '(?:tis|twas)\b | ol'(?![a-z]) | y'all\b
    | [a-hj-xz]'[a-z]{{2,}} | [a-z]+[aeiouy]'[aeiou][a-z]*   # o'brien, o'clock, ma'am
    | (?-i:[A-Z]+(?:&[A-Z]+)+)                           # AT&T
    | (?:[a-z]\.){{2,}}                                  # u.s., p.m.
    | (?:{_ABBREVIATIONS})\. | no\.(?=\s*\d) | (?<![\w.])[a-z]\.(?=\s)
    | \d{{1,2}}:\d\d                                     # a time
    | (?<![^\s(])(?>[+-]?\.?\d+(?:[.,:/-]\d+)*)(?![\w-]|/\w)  # a number, a date, a score
    | [^\W_]+(?:[-/._][^\W_]+)*                          # a word, with what joins its parts
    | [?!]+ | \.{{3}} | -{{2,}} | _{{2,}} | \*{{2,}}
    | [^\s\U00010000-\U0010ffff]                         # one mark; emoji are dropped
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokens(caption: str) -> list[str]:
    """Return the words in lower case without punctuation; "don't" is "do", "n't" and "dog's" is "dog", "'s"."""
    text = html.unescape(caption).translate(_PLAIN).replace("\n", " ")
    text = _CONTRACTED.sub(lambda match: f" {match[0]}", text)
    found = [_BRACKETS.get(token, token.lower()) for token in _TOKEN.findall(text)]
    words = [word for token in found for word in _TWO_WORDS.get(token, token).split()]
    return [word for word in words if word not in DROPPED and word.strip('-"')]


def java_tokens(captions: Sequence[str], jar: Path) -> list[list[str]]:
    """Return the tokens of many captions by CoreNLP's tokeniser. Raises UserError if Java or the jar fails."""
    lines = [" ".join(caption.split()) for caption in captions]
    command = ["java", "-cp", str(jar), JAVA_CLASS, "-preserveLines", "-lowerCase"]
    try:
        done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"Java's PTB tokeniser failed ({error}): remove java from PATH to use vlmprune's own"
        ) from error
    output = done.stdout.decode().split("\n")
    # split(), as CIDEr does: "1 1/2" comes as one token with a no-break space in it.
    return [
        [word for token in line.split(" ") if token not in DROPPED for word in token.split()]
        for line in output[: len(lines)]
    ]


def find_jar() -> Path | None:
    """Return CoreNLP's jar if both it and Java are installed, else None."""
    from importlib.util import find_spec

    package = find_spec("pycocoevalcap")
    if package is None or shutil.which("java") is None:
        return None
    folders = package.submodule_search_locations or []  # a namespace package has no origin
    return next((jar for folder in folders if (jar := Path(folder) / "tokenizer" / JAR).exists()), None)


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
    """Return `summarise`'s metric by CoreNLP's tokeniser in `jar`, or by the port of it below if that is None."""
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
