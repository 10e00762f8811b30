"""WordNet through nltk, for WUPS: lemmas as pywsd makes them, which NExT-OE uses, and Wu-Palmer similarity."""

from __future__ import annotations

from functools import cache

from vlmprune.errors import UserError

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
def load() -> WordNet:
    """Return the one WordNet of this process."""
    return WordNet()
