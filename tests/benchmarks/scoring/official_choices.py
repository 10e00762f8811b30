"""Benchmarks' own ways of reading a multiple-choice answer: the letters that each script would count as right.

Written anew from what the scripts do; each function names its source. A rule gives no letter where it finds none, and
every letter where it would count any.
"""

from __future__ import annotations

import re

Options = dict[str, str]  # letter -> text


def scienceqa(text: str, options: Options) -> set[str]:
    """LLaVA's eval_science_qa.py: the bare capital, "B. ...", or one "The answer is B" and a character."""
    found = re.findall("The answer is ([A-Z]).", text)
    if text not in "ABCDE" or len(text) != 1:
        text = text[0] if re.match(r"[A-E]\. ", text) else found[0] if len(found) == 1 else ""
    return {text} & set(options)


def seed(text: str, options: Options) -> set[str]:
    """LLaVA's convert_seed_for_submission.py: the answer is the letter and nothing else."""
    return {text} & set(options)


def seed_lmms_eval(text: str, options: Options) -> set[str]:
    """lmms-eval's seedbench/utils.py: the first character, of either case."""
    return {text.strip()[:1].upper()} & set(options)


def ai2d(text: str, options: Options) -> set[str]:
    """lmms-eval's ai2d/utils.py: "B. ..." at the beginning, else the letter of either case among punctuation alone."""
    found = re.match(r"\s*([A-Z])\.", text)
    letter = found[1] if found else re.sub(r"[!-/:-@\[-`{-~]", "", text).upper()
    return {letter} & set(options)


def mmbench(text: str, options: Options) -> set[str]:
    """VLMEvalKit's can_infer, which OpenCompass's server asks before a language model.

    A letter that is a word by itself and the only one, among the last five words; else "answer is B"; else the one
    option whose text occurs, in answers of at most twice the length of all texts.
    """
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", text).split()
    alone = [letter for letter in options if letter in words]
    if len(alone) == 1 and words.index(alone[0]) > len(words) - 5:
        return set(alone)
    said = re.search(r"(?i)answer\s+is\s+\**([ABCD])\**", text)
    if said and said[1].upper() in options:
        return {said[1].upper()}
    if len(text) > 2 * sum(map(len, options.values())):
        return set()
    within = {letter for letter, option in options.items() if option.lower() in text.lower()}
    return within if len(within) == 1 else set()


def mmmu(text: str, options: Options) -> set[str]:
    """MMMU's eval_utils.py, and NExT-QA's in lmms-eval: of all "(B)", else "B ", else "B." the last; else the last
    option's text in more than five words. It draws an option where it finds none, which is no letter here."""
    padded = f" {text.strip(',.!?;:').strip(chr(39))} "
    for form in ("({})", "{} ", "{}."):
        named = [letter for letter in options if form.format(letter) in padded]
        if named:
            place = "({})" if form == "({})" else " {} "
            return {max(named, key=lambda letter: padded.rfind(place.format(letter)))}
    if len(padded.split()) <= 5:
        return set()
    places = {letter: padded.lower().rfind(option.lower()) for letter, option in options.items()}
    last = max(places, key=lambda letter: places[letter])
    return {last} if places[last] >= 0 else set()


def egoschema(text: str, options: Options) -> set[str]:
    """lmms-eval's egoschema/utils.py: as MMMU's, but the first of all forms, and the first text."""
    padded = f" {text.strip(',.!?;:').strip(chr(39))} "
    forms = [(padded.rfind(form.format(x)), x) for form in ("({})", "{} ", "{}.") for x in options]
    places = [place for place in forms if place[0] >= 0]
    if not places and len(padded.split()) > 5:
        # As published the texts that are not there stand at -1, which counts as first only where another one is.
        places = [(padded.lower().rfind(t.lower()), x) for x, t in options.items() if t.lower() in padded.lower()]
    return {min(places)[1]} if places else set()


def mmstar(text: str, options: Options) -> set[str]:
    """lmms-eval's mcq_extract.py, of MMStar, RealWorldQA and Video-MME: the form that ranks first, its last place."""
    stripped = text.strip()
    for mark in ",.!?;:'\"":
        stripped = stripped.strip(mark)
    padded, core = f" {stripped} ", stripped.strip()
    ranks: list[tuple[int, int, str]] = []
    phrases = ["answer is", "correct option is", "best option is", "choice is", "i choose", "i select", "i pick"]
    phrases += ["答案是", "答案为", "选"]
    for letter in options:
        if core.startswith(letter) and not core[1:2].isalpha():
            ranks.append((10, 0, letter))
        if core.endswith(letter) and not (len(core) > 1 and core[-2].isalpha()):
            ranks.append((9, len(padded), letter))
        for phrase in phrases:
            after = padded.lower().find(phrase)
            place = padded.find(letter, after + len(phrase)) if after >= 0 else -1
            ranks += [(7, place, letter)] if place >= 0 else []
        for rank, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
            place = padded.rfind(form.format(letter))
            ranks += [(rank, place, letter)] if place >= 0 else []
    if not ranks:
        ranks = [(0, padded.rfind(letter), letter) for letter in options if letter in padded]
    return {max(ranks)[2]} if ranks else set()


def videomme(text: str, options: Options) -> set[str]:
    """Video-MME's own extract_characters_regex: the first capital A to D behind "The answer is" and the like."""
    for phrase in ("The best answer is", "The correct answer is", "The answer is", "The answer", "Answer:", "Option:"):
        text = text.replace(phrase, "")
    return set(re.findall("[ABCD]", text)[:1]) & set(options)


def mvbench(text: str, options: Options) -> set[str]:
    """MVBench's check_ans: the first word, without periods, is part of "(b)" or has it in it; so an empty one is."""
    first = text.lower().strip().split(" ")[0]
    return {x for x in options if first.replace(".", "") in f"({x.lower()})" or f"({x.lower()})" in first}


RULES = {rule.__name__: rule for rule in (scienceqa, seed, seed_lmms_eval, ai2d, mmbench, mmmu, egoschema, mmstar)}
RULES |= {rule.__name__: rule for rule in (videomme, mvbench)}
