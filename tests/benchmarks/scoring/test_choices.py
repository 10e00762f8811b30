"""Multiple choice: every rule of letter extraction, CircularEval, category means.

The forms that models write most are in test_official_choices.py, each with many options.
"""

import time

import pytest

from vlmprune.benchmarks.scoring import choices
from vlmprune.benchmarks.scoring.choices import choice_match, letter

ANIMALS = ["a dog", "a cat", "a black cat", "At night"]


@pytest.mark.parametrize(
    ("prediction", "named"),
    [
        # 1. the letter alone
        (" b.", "B"),
        # 2. at the beginning
        ("B. a dog", "B"),  # the letter wins over the text
        ("b) a cat", "B"),
        ("A, because", "A"),
        ("C\nIt is a black cat.", "C"),
        ("A.M. is before noon", None),
        ("(A) and (B)", None),
        # 3. said
        ("B is wrong, so the answer is (C)", "C"),
        ("I would choose option A here", "A"),
        ("the answer is B. No, the answer is C", "C"),  # the last
        ("the answer is bright", None),
        # 4. one letter only
        ("I am sure that (D) fits", "D"),
        ("it must be B here", "B"),
        ("A or C", None),
        ("I", None),
        # 5. the option's text
        ("A cat.", "B"),
        ("It is a black cat, I think", "C"),  # "a cat" is not there; "a black cat" is
        ("a dog and a cat", None),
        ("at night!", "D"),
        ("a catfish", None),
        # sentences, brackets, refusals and two letters
        ("A dog", "A"),
        ("A/B", None),
        ("A B", None),
        ("AB", None),
        ("The answer is A and B.", None),
        ("(A) or B", None),
        ("A or (B)", None),
        ("A is wrong", None),
        ("I'd choose A over B", None),
        ("Option B instead of option A", "B"),
        ("A cannot be right, so B", "B"),
        ("A isn't right. C is.", "C"),
        ("A doesn't match; it must be D.", "D"),
        ("A and C are wrong; B", "B"),
        ("(A) and (C) are incorrect. (B)", "B"),
        ("The answer is a lion", None),
        ("the answer is a because it barks", "A"),
        ("option b is right", "B"),
        ("the correct answer is (c).", "C"),
        ("I choose A because it barks", "A"),
        ("A because it barks", "A"),
        ("A is the right one", "A"),
        ("The answer is A, as option B is blurred", "A"),
        ("Option A shows a lion; option B is correct.", "B"),
        ("The correct answer would be B.", "B"),
        ("Answer:\nB", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: (B)", "B"),
        ("The answer is $\\boxed{B}$", "B"),
        ("\\boxed{C}", "C"),
        ("Ａ", "A"),
        ("Ｂ．", "B"),
        ("答案：B", "B"),
        ("选B", "B"),
        ("应该选择B。", "B"),
        ("我认为是B", "B"),
        ("B、一只猫", "B"),
        ("B。", "B"),
        ("正确答案为（C）", "C"),
        ("不是A，是B", "B"),
        ("A不对，B对", "B"),
        ("不选A，选B", "B"),
        ("A和B", None),
        ("故选Ｄ", "D"),
        ("B.一只猫", "B"),
        ("(B) a dog is wrong", None),
        ("B) C is wrong", "B"),
        ("B - a cat", "B"),
        ("B a cat", "B"),
        ("**B. a cat**", "B"),
        ("[B]", "B"),
        ("{B}", "B"),
        ("<B>", "B"),
        ("'B'", "B"),
        ("`B`", "B"),
        ('"b"', "B"),
        ("X-ray", None),
        ("B-flat", None),
        ("the U.S.A", None),
        ("C's", None),
        ("i.e. something", None),
        ("none of them", None),
        ("...", None),
        ("Not A", None),
        ("not B or C. D", "D"),
        ("neither A, C nor D: B", "B"),
        ("The answer isn't A, it is B", "B"),
        ("I don't think A is right, B is.", "B"),
        ("Choice (b)", "B"),
        ("I see X and B", "B"),
        ("A dog and a cat", None),
        ("The answer to the question is b.", "B"),
        ("B is not wrong", "B"),
        ("the image shows A fox", "A"),
        ("A: B", None),
        ("Answer: A lion", None),
        ("b, because", None),
        ("a) and b)", None),
        ("(a) or (b)", None),
        ("The correct option is not given", None),
        ("(A)(B)", None),
        ("The answer is (A).\n(B) is wrong.", "A"),
        ("B\n\nExplanation: A shows a lion", "B"),
        ("it is (b) not (a)", "B"),
        ("The answer is B or maybe C", None),
        ("B, C and D are wrong", None),
        ("A dog is not in the picture, a cat is", "B"),
    ],
)
def test_rules(prediction, named):
    assert letter(prediction, ANIMALS) == named


@pytest.mark.parametrize(
    ("prediction", "choices", "named"),
    [
        ("-5", ["5", "-5"], "B"),
        ("Solution B", ["x", "y", "Solution B"], "C"),
        ("It is Solution B.", ["x", "y", "Solution B"], "C"),
        ("Both A and B", ["x", "y", "Both A and B"], "C"),
        ("A is wrong.", ["a", "b"], None),
        ("There is no dog", ["dog", "cat"], None),
        ("No, a dog", ["a dog", "a cat"], "A"),
        ("Vitamin C", ["Vitamin A", "Vitamin C"], "B"),
        ("I think it is vitamin C.", ["Vitamin A", "Vitamin C", "x"], "B"),
        ("C#", ["C++", "C#", "Java"], "B"),
        ("AA", ["Aa", "AA", "aa"], "B"),
        ("Aa", ["Aa", "AA", "aa"], "A"),
        ("12.5", ["12", "12.5"], "B"),
        ("It is 12.5", ["12", "5", "7"], None),
        ("The answer is 12", ["12", "5"], "A"),
        ("it is -5", ["5", "-5"], "B"),
        ("There are 12, I think", ["12", "5"], "A"),
        ("1/2", ["12", "1/2"], "B"),
        ("about 1,000", ["1000", "100"], "A"),
        ("yes", ["Yes", "No"], "A"),
        ("No, it is not.", ["Yes", "No"], "B"),
        ("Yes, it is.", ["Yes", "No"], "A"),
        ("No.", ["Yes", "No"], "B"),
        ("一只狗在跑", ["狗", "猫"], "A"),
        ("不是狗，是猫", ["狗", "猫"], "B"),
        ("<5", ["<5", ">5"], "A"),
        ("5", ["<5", ">5"], None),
        ("The answer is A cat", ["dog", "cat"], "B"),
        ("A cat", ["dog", "cat"], "B"),
        ("A. dog", ["dog", "a dog"], "A"),  # the letter and its own text, though "a dog" is B's
        ("A dog", ["dog", "a dog"], "B"),
        ("A. B", ["B", "A", "dog"], "A"),
        ("hi", ["hi", "ho"], "A"),
        ("It is x.", ["x", "y"], "A"),  # a letter that is no option's
        ("The answer is y", ["x", "y"], "B"),
        ("I say it is II", ["I", "II", "III"], "B"),
        ("It is I.", ["I", "II", "III"], "A"),
        ("It is dark red", ["red", "dark red", "blue"], "B"),  # the longest of those that contain each other
        ("It is red", ["red", "dark red", "blue"], "A"),
        ("B", ["", "", ""], "B"),  # texts that are not known
        ("a cat", ["", "", ""], None),
        ("It is B.", ["x", "y", "B"], "B"),  # the option's letter comes before a text that is a letter
    ],
)
def test_option_texts(prediction, choices, named):
    assert letter(prediction, choices) == named


@pytest.mark.parametrize("part", ["A and ", "not the answer ", ".", "(", "a dog ", "neither A, ", "answer is "])
def test_an_answer_that_repeats_itself_is_read_in_no_time(part):
    """As models write that lost too many tokens. Linear, or nearly: minutes otherwise."""
    start = time.perf_counter()
    letter(part * (4000 // len(part)) + "x", ANIMALS)
    assert time.perf_counter() - start < 5


def test_match():
    assert choice_match("The answer is B", "b", ANIMALS) == 1.0
    assert choice_match("no idea", "A", ANIMALS) == 0.0


def test_circular_counts_a_question_where_all_rotations_are_right():
    def row(index, score):
        return {"extra": {"index": index}, "score": score}

    rows = [row(1, 1.0), row(1_000_001, 1.0), row(2, 1.0), row(1_000_002, 0.0), row(2_000_002, 1.0)]
    assert choices.summarise_circular(rows) == {"accuracy": 0.5, "vanilla_accuracy": 0.8, "questions": 2.0}


def test_categories_weigh_the_same():
    rows = [{"category": "a", "score": 1.0}] * 9 + [{"category": "b", "score": 0.0}]
    assert choices.summarise_grouped(rows) == {"accuracy": 0.5, "question_accuracy": 0.9}
