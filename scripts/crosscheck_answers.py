"""Generated answers for crosscheck_scorers.py: what models write, and what trips a scorer."""

from __future__ import annotations

import random

_WORDS = "dog cat red two none 10 1,000 3.5 the stop sign yes no t-shirt o'clock coca-cola 50% U.S. 1st left don't"
_CONTRACTED = "dont cant its isnt theyre yall somebody'd shouldnt've oclock whats youve a an The"
WORDS = _WORDS.split()
MARKS = ["", "", "", ".", ",", "!", "?", " .", "'s", "-", "/", ";", '"', "...", ", and", ":"]
CHOICE_FORMS = (
    "{L}|{L}.|({L})|{l}|{L})|{L}. {t}|({L}) {t}|{L}: {t}|{L}, {t}|{L}\n{t}|The answer is {L}.|Answer: {L}"
    "|answer is ({L})|The correct option is {L}. {t}|{t}|{t}.|It is {t}|A {t}|I think it is {t}.|{L} or {M}"
    "|({L}) and ({M})|Option {L}|**{L}**|The answer is {t}|I|none of them||{t} and {u}|{L}{M}|{L} {t}"
    "|It cannot be seen in the picture.|The image shows a {u}, so the answer is {L}|答案是{L}"
    "|{M} is wrong. The answer is {L}|({M}) is incorrect; ({L}) is correct.|not {M} but {L}|{L}, not {M}"
    "|The answer is {l}.|（{L}）|It is not {u} but {t}|{L}. {M}."
)
TEXTS = ["a dog", "dog", "Red", "dark red", "two people", "The woman", "12", "a black cat", "At night", "yes", "B", "I"]
CAPTION_PARTS = (
    ["A man", "Two dogs", "The woman's bag", "3 people", "An old U.S. flag", "A T-shirt", "A group of kids"],
    ["is sitting on", "isn't near", "standing next to", "that says", "holding", "who's riding", "can't reach"],
    ["a bench", 'a "stop" sign', "two well-known cats", "a half-eaten sandwich (small)", "St. Bernard's toy", "$5"],
    [".", "", " in the rain.", ", etc.", " at 3:30 p.m.", "!!", " - black and white", "; outdoors"],
)


class Answers:
    """A seeded source of answers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def short(self) -> str:
        """A short free answer, with articles, numbers, contractions, punctuation and spaces in all places."""
        pick = self.random.choice
        words = [pick(WORDS + _CONTRACTED.split()) + pick(MARKS) for _ in range(self.random.randint(0, 3))]
        text = pick([" ", " ", "  ", "\n", "\t"]).join(words)
        return pick([str, str.lower, str.upper, str.capitalize])(text) + pick(["", "", "", " ", "\n"])

    def annotators(self, prediction: str) -> list[str]:
        """Ten annotators' answers, some of them what was predicted, or nearly."""
        pick = self.random.choice
        near = [prediction, prediction.lower(), prediction.strip().rstrip("."), f"the {prediction}", self.short()]
        answers = [pick([pick(near), pick(near), pick(WORDS)]) for _ in range(10)]
        return [answers[0]] * 10 if self.random.random() < 0.1 else answers

    def yes_no(self) -> str:
        forms = "yes|no|Yes|No|Yes.|No.|YES|Yes, it is|No, there is no dog|There is not|not sure|maybe|y|n||no, yes"
        forms += "|nope|It is. No|Yes, but not red|N.o| yes|none|unknown|I do not know. Yes"
        return self.random.choice(forms.split("|"))

    def options(self) -> list[str]:
        return self.random.sample(TEXTS, self.random.randint(2, 4))

    def choice(self, options: list[str]) -> tuple[str, str, str]:
        """An answer to a question with these options, the letter that it means, and its form (of CHOICE_FORMS)."""
        pick = self.random.choice
        first, second = self.random.randrange(len(options)), self.random.randrange(len(options))
        form = pick(CHOICE_FORMS.split("|"))
        names = {"L": "ABCDE"[first], "l": "abcde"[first], "M": "ABCDE"[second]}
        return form.format(**names, t=options[first], u=options[second]), names["L"], form

    def number(self) -> str:
        """A number as charts have them, or a word."""
        value = self.random.choice([0, 1, 5, 12.5, 100, 0.37, -3, 2019])
        near = value * self.random.choice([1, 1, 1.04, 1.05, 1.06, 0.95, 0.94, -1])
        return self.random.choice(
            [f"{near:g}", f"{near:g}%", f"{near:.2f}", f"{near:,.0f}", f" {near:g}", "Yes", "no", ""]
        )

    def open_answer(self, answer: str) -> str:
        """A line or two that may conclude with `answer`."""
        forms = (
            "{}|The answer is {}.|So it is {}\nthus {}|x = {}|I think {} is right|= {}|it could be {} or 7|Result {}!|."
        )
        return self.random.choice(forms.split("|")).replace("{}", answer)

    def ratings(self) -> str:
        """A judge's reply that should begin with two ratings."""
        first, second = (self.random.choice(["1", "5", "8", "10", "7.5", "0", "11", "-1", "nan"]) for _ in range(2))
        forms = "{} {}|{} {}\nBecause.|{}, {}|{},{}|Assistant 1: {}\nAssistant 2: {}|{}/10 {}/10|Scores: {} {}|{}\n{}"
        return self.random.choice(forms.split("|")).format(first, second)

    def video_verdict(self) -> str:
        """A judge's reply that should be a dictionary with pred and score."""
        pick = self.random.choice
        pred = pick(['"yes"', '"no"', '"Yes"', '"yes"', '"no"', '"maybe"', "true"])
        score = pick(["4", "0", "4.8", '"4"', '"4.5"', "6", "-1", "null", "true"])
        return pick(["{}", "Sure: {}.", "{}\n"]).replace("{}", f'{{"pred": {pred}, "score": {score}}}')

    def caption(self) -> str:
        return " ".join(map(self.random.choice, CAPTION_PARTS[:3])) + self.random.choice(CAPTION_PARTS[3])
