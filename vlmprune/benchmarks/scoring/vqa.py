"""VQA accuracy (Goyal et al., CVPR 2017): agreement with ten annotators, after the official normalisation.

Two scripts are in use and differ in what they normalise. `vqa_accuracy` is VQA's own (vqaEval.py of the VQA API, as it
is since commit a013f00 of 2021-03-11), for VQAv2. `evalai_accuracy` is that of TextVQA's challenge on EvalAI, which
LLaVA runs for TextVQA, and lmms-eval for VizWiz and OK-VQA too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlmprune.benchmarks.base import Metric

METRIC = Metric("vqa_accuracy")

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# The scripts' "(?!<=\d)" is a slip for a lookbehind and does nothing: "5." loses its period, "1.5" keeps it.
PERIOD = re.compile(r"\.(?!\d)")
# They pass re.UNICODE as the number of replacements, so that only the first 32 periods are removed.
PERIODS_REMOVED = int(re.UNICODE)
COMMA_IN_NUMBER = re.compile(r"\d,\d")
COMMAS_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")  # EvalAI's version

_DIGITS = "zero one two three four five six seven eight nine ten"
NUMBERS = {word: str(value) for value, word in enumerate(_DIGITS.split())} | {"none": "0"}
ARTICLES = {"a", "an", "the"}

# The scripts list every contraction with exactly one of its apostrophes missing; so the list of contractions is enough.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[:index] + word[index + 1 :]: word
    for word in _CONTRACTIONS.split()
    for index, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # reversed, as published


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy by VQA's own script, 0..1. answers: of the annotators, as in the annotation file.

    If the annotators differ, prediction and answers are normalised alike; if they all say the same, both are compared
    unchanged, capitals included. So a prediction is best given as LLaVA submits it, `evalai_answer` of it.
    """
    predicted, expected = _one_line(prediction), [_one_line(answer) for answer in answers]
    if len(set(expected)) > 1:
        predicted, *expected = (_vqa_answer(text) for text in (predicted, *expected))
    return leave_one_out(predicted, expected)


def evalai_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Return the accuracy by EvalAI's script, 0..1: prediction and annotators' answers are normalised alike."""
    return leave_one_out(evalai_answer(prediction), [evalai_answer(answer) for answer in answers])


def evalai_answer(text: str) -> str:
    """Return EvalAI's form of text: lower case, possessives, then punctuation, numbers, articles and contractions."""
    words = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _numbers_and_articles(_punctuation(_one_line(words), COMMAS_IN_NUMBER))


def _vqa_answer(text: str) -> str:
    return _numbers_and_articles(_punctuation(text, COMMA_IN_NUMBER))


def leave_one_out(prediction: str, answers: Sequence[str]) -> float:
    """Return the mean over the annotators of min(1, agreeing others / 3): every annotator is left out once."""
    agreeing = sum(answer == prediction for answer in answers)
    scores = [min(1.0, (agreeing - (answer == prediction)) / 3) for answer in answers]
    return sum(scores) / len(scores)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _punctuation(text: str, comma: re.Pattern[str]) -> str:
    """Return text without marks beside a space, and with a space for others; if a number has a comma, without marks."""
    numeric = comma.search(text) is not None
    result = text
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if numeric or beside_space else " ")
    return PERIOD.sub("", result, count=PERIODS_REMOVED)


def _numbers_and_articles(text: str) -> str:
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
