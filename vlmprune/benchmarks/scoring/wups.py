"""WUPS scores of open answers, and the WordNet lexicon that they need.

WUPS@0 (Malinowski & Fritz, NeurIPS 2014), as NExT-OE's metrics.py scores NExT-QA's open answers (Xiao et al., 2021).

Both answers are reduced to the lemmas that are no stop words; every lemma is matched with the most similar one of the
other answer, and the similarities are multiplied, in both directions; the smaller product counts.

WordNet through nltk, for WUPS: lemmas as pywsd makes them, which NExT-OE uses, and Wu-Palmer similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

from vlmprune.benchmarks.base import Metric
from vlmprune.errors import UserError

METRIC = Metric("wups")  # published times 100
EXACT_TYPES = ("DC", "DB")  # counting and yes-or-no questions: the answers' words must be the same


class Lexicon(Protocol):
    """Interface of the functions of WordNet that WUPS needs."""

    def content_words(self, text: str) -> list[str]:
        """Return the lemmas of a text without stop words, in order."""
        ...

    def similarity(self, a: str, b: str) -> float:
        """Return the Wu-Palmer similarity of two words' first meanings, 0..1; 0 if one has none."""
        ...


def score(prediction: str, answers: Sequence[str], question_type: str, lexicon: Lexicon) -> float:
    """Return the best WUPS@0 over the accepted answers, 0..1. question_type: NExT-QA's, such as CW or DC."""
    words = lexicon.content_words(prediction)
    expected = [lexicon.content_words(answer) for answer in answers]
    if question_type in EXACT_TYPES:
        return float(words in expected)
    return max(wups(words, other, lexicon.similarity) for other in expected)


def wups(a: Sequence[str], b: Sequence[str], similarity: Callable[[str, str], float]) -> float:
    """Return WUPS@0 of two lists of words, 0..1; symmetric."""
    return min(_one_way(a, b, similarity), _one_way(b, a, similarity))


def _one_way(words: Sequence[str], others: Sequence[str], similarity: Callable[[str, str], float]) -> float:
    """Return the product of the words' best matches. As published, words without a match are left out; 0 if all are."""
    best = [max((1.0 if word == other else similarity(word, other) for other in others), default=0.0) for word in words]
    product = 1.0
    for value in best:
        product *= value or 1.0
    return product if any(best) else 0.0


DATA = ("wordnet", "averaged_perceptron_tagger_eng")  # nltk's names of the data to download

# NExT-OE's list: nltk's, without negations, places, times and amounts, which may be the answer.
_STOP_WORDS = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him his himself
she she's her hers herself it it's its itself they them their theirs themselves what which who whom this that that'll
these those am is are was were be been being have has had having do does did doing a an the and but if or because as
until while to from of at for with about into through during again further then here there when where why how all any
each most other some such only own so than too very s t can will just don don't should should've now d ll m o re ve y
ain aren aren't couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn
mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_PART_OF_SPEECH = {"N": "n", "V": "v", "J": "a", "R": "r"}  # of a Penn tag's first letter


class WordNet:
    """WordNet as a `Lexicon`. Raises UserError if nltk or its data are missing, with the command that installs them."""

    def __init__(self) -> None:
        try:
            import nltk
            from nltk.corpus import wordnet
            from nltk.stem import PorterStemmer, WordNetLemmatizer
        except ImportError as error:
            raise UserError(f"WUPS needs nltk ({error}): pip install 'vlmprune[wups]', then vlmprune score") from error
        try:
            wordnet.ensure_loaded()
            nltk.pos_tag(["dog"])
        except LookupError as error:
            raise UserError(f"WUPS needs nltk's data: python -m nltk.downloader {' '.join(DATA)}") from error
        self._nltk, self._wordnet = nltk, wordnet
        self._lemmatize, self._stem = WordNetLemmatizer().lemmatize, PorterStemmer().stem

    def content_words(self, text: str) -> list[str]:
        """Return the lemmas of a text without stop words, in order."""
        tagged = self._nltk.pos_tag(self._nltk.word_tokenize(text, preserve_line=True))
        lemmas = [self._lemma(word.lower(), tag) for word, tag in tagged]
        return [lemma for lemma in lemmas if lemma not in STOP_WORDS]

    def similarity(self, a: str, b: str) -> float:
        """Return the Wu-Palmer similarity of the first meanings, 0..1; 0 if a word has none or they share no root."""
        first, second = self._wordnet.synsets(a)[:1], self._wordnet.synsets(b)[:1]
        return (first[0].wup_similarity(second[0]) or 0.0) if first and second else 0.0

    def _lemma(self, word: str, tag: str) -> str:
        """Return the lemma by the word's part of speech in the text, else alone; if WordNet lacks it, the stem."""
        part = _PART_OF_SPEECH.get(tag[0]) or _PART_OF_SPEECH.get(self._nltk.pos_tag([word])[0][1][0], "n")
        for form in (self._lemmatize(word, part), self._stem(word)):
            if self._wordnet.synsets(form):
                return form
        return word


@cache
def load_wordnet() -> WordNet:
    """Return the one WordNet of this process."""
    return WordNet()
