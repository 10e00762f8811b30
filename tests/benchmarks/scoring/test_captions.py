"""Caption tokens against Stanford's tokeniser, and CIDEr's limits. Needs pycocoevalcap, and Java for the comparison."""

from pathlib import Path

import pytest

from vlmprune.benchmarks.scoring import captions
from vlmprune.benchmarks.scoring.captions import find_jar, java_tokens, tokens
from vlmprune.benchmarks.short_answers import Captions

CAPTIONS = [
    "A man's dog isn't here, can't, won't; it cannot.",
    'Two (2) cats & a "dog" -- well-known 1,000 items $5.99 50% off!',
    "The U.S. flag. Mr. Smith's e-mail at 10:30 a.m. o'clock",
    "a café 'quoted' it's dogs' [x] {y} — no…",
    "rock 'n' roll #1 1990s '90s T-shirt black-and-white 1.5-inch",
    "",
    "black/white and/or 12/25/2010, St. Louis, etc. vs. Dr. No. 5",
    "don’t “curly” ‘single’ y'all 'tis I'd've they'll wanna",
    "man,woman and child.A dog ... what?! yes!! 3-4 +5 a=b ½ pizza",
]


def test_tokens_by_hand():
    assert tokens("A man's dog isn't here, cannot!") == ["a", "man", "'s", "dog", "is", "n't", "here", "can", "not"]
    assert tokens('"Stop" (5) -- 1,000 T-shirts...') == ["stop", "-lrb-", "5", "-rrb-", "1,000", "t-shirts"]
    assert tokens("") == []


@pytest.mark.skipif(find_jar() is None, reason="needs Java and pycocoevalcap")
def test_our_tokens_are_those_of_corenlp():
    assert [tokens(caption) for caption in CAPTIONS] == java_tokens(CAPTIONS, find_jar())


def rows(predictions, references):
    return [
        {"prediction": prediction, "extra": {"answers": answers}}
        for prediction, answers in zip(predictions, references, strict=True)
    ]


def test_cider_of_a_set():
    pytest.importorskip("pycocoevalcap")
    references = [["A red dog runs."], ["Two cats sleep on a sofa."], ["The old train is late."]]
    perfect = captions.cider(rows([texts[0] for texts in references], references), None)
    assert perfect == {"cider": pytest.approx(captions.METRIC.highest)}
    wrong = captions.cider(rows(["green grass"] * 3, references), None)
    assert wrong["cider"] == captions.METRIC.lowest
    some = captions.cider(rows(["A red dog sits.", "", "late train"], references), None)
    backwards = captions.cider(rows(["late train", "", "A red dog sits."], references[::-1]), None)
    assert 0 < some["cider"] < 10 and some["cider"] == pytest.approx(backwards["cider"])


@pytest.mark.skipif(find_jar() is None, reason="needs Java and pycocoevalcap")
def test_both_tokenisers_give_these_captions_one_score():
    references = [[caption] for caption in CAPTIONS[:3]]
    with_java = captions.cider(rows(CAPTIONS[:3], references), find_jar())
    without = captions.cider(rows(CAPTIONS[:3], references), None)
    assert with_java["cider"] == pytest.approx(without["cider"])


@pytest.mark.parametrize(
    ("jar", "name"), [(Path("corenlp.jar"), "CoreNLP 3.4.1"), (None, "vlmprune's port of CoreNLP's")]
)
def test_runs_are_told_apart_by_the_tokeniser(monkeypatch, jar, name):
    monkeypatch.setattr(captions, "find_jar", lambda: jar)
    benchmark = Captions(max_new_tokens=8, path="nowhere", split="test", columns={})
    assert benchmark.scoring_tools() == {"tokeniser": name}


def test_without_pycocoevalcap_it_says_what_to_install(monkeypatch):
    from vlmprune.errors import UserError

    monkeypatch.setitem(__import__("sys").modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(UserError, match=r"vlmprune\[captions\]"):
        captions.cider(rows(["a"], [["a"]]), None)
