"""Multiple choice, for crosscheck_scorers.py: our rules beside those of lmms-eval's tasks."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from crosscheck_answers import Answers

from vlmprune.benchmarks.scoring import choices

LETTERS = string.ascii_uppercase
Pair = tuple[Any, Any, str]  # ours, theirs, and why they may differ ("" if they may not)


def letters_by(load: Callable[[str], Any], prediction: str, options: list[str]) -> dict[str, str]:
    """The letter that each of lmms-eval's extractors finds, "" for none. MMMU's draws one where it finds none."""
    named = dict(zip(LETTERS, options, strict=False))
    extract = load("tasks._task_utils.mcq_extract").extract_mcq_answer
    parse = load("tasks._task_utils.mmmu_mcq_utils").parse_mmmu_multi_choice_response
    first = load("tasks.egoschema.utils").parse_multi_choice_response
    infer = load("tasks.mmbench.mmbench_evals").MMBench_Evaluator().can_infer
    return {
        "mmstar, realworldqa, videomme": extract(prediction, list(named)),
        "mmmu, nextqa (choices)": parse(prediction, list(named), named),
        "egoschema": first(prediction, list(named), named)[0],
        "mmbench": infer(prediction, dict(named)) or "",
    }


def check_choices(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    options = make.options()
    prediction, _, form = make.choice(options)
    index = make.random.randrange(len(options))
    answer = LETTERS[index]
    free = "" if form in ("{L}", "{L}.") else "bracket, lower case" if form in ("({L})", "{L})", "{l}") else "free text"
    told = choices.letter(prediction, options) or ""
    for name, found in letters_by(load, prediction, options).items():
        yield name, (told, found, free)
    ours = choices.choice_match(prediction, answer, options)
    expected = load("tasks.scienceqa.utils").sqa_process_results({"choices": options, "answer": index}, [prediction])
    yield "scienceqa", (ours, expected["exact_match"], free)
    yield "seed", (ours, float(prediction.strip()[:1].lower() == answer.lower()), free)
    filtered = load("tasks.ai2d.utils").MultiChoiceRegexFilter().apply([[prediction]], [{}])
    matched = load("api.metrics").exact_match_hf_evaluate(filtered, [answer], ignore_case=True, ignore_punctuation=True)
    yield "ai2d", (ours, float(matched["exact_match"]), free)
    yield "mvbench", (ours, float(load("tasks.mvbench.utils").mcq_acc(answer, prediction)), free)


def print_forms(make: Answers, load: Callable[[str], Any], count: int) -> None:
    """For every form of an answer, how often each extractor names the letter that is meant, in percent."""
    named: dict[str, Counter[str]] = {}
    for _ in range(count):
        options = make.options()
        prediction, meant, form = make.choice(options)
        found = {"ours": choices.letter(prediction, options)} | letters_by(load, prediction, options)
        named.setdefault(form, Counter()).update(["n", *(name for name, letter in found.items() if letter == meant)])
    columns = ["ours", "mmstar, realworldqa, videomme", "mmmu, nextqa (choices)", "egoschema", "mmbench"]
    print(f"\n{'form':<52} " + " | ".join(columns))
    for form, counts in named.items():
        print(f"{form!r:<52} " + " | ".join(f"{100 * counts[name] / counts['n']:.0f}" for name in columns))
