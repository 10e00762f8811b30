"""Our scorers beside lmms-eval's own functions, on thousands of generated answers.

lmms-eval would replace torch and break Hydra, so it stays in an environment of its own, without its dependencies:

    python3 -m venv /tmp/crosscheck && /tmp/crosscheck/bin/pip install --no-deps lmms-eval==0.7.3 loguru numpy pandas \
        python-dateutil six pytz requests urllib3 idna certifi charset_normalizer pyyaml pillow sacrebleu portalocker \
        colorama lxml tqdm regex openai tabulate pycocoevalcap pycocotools
    PYTHONPATH=. /tmp/crosscheck/bin/python scripts/crosscheck_scorers.py 5000

Every difference must have one of the reasons of docs/scoring.md; the exit code is 1 where one has none.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import string
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crosscheck_answers import Answers

from vlmprune.benchmarks.scoring import (
    anls,
    captions,
    choices,
    exact,
    mme,
    ocrbench,
    open_answers,
    pope,
    ptb,
    relaxed,
    vqa,
)

LETTERS = string.ascii_uppercase
Pair = tuple[Any, Any, str]  # ours, theirs, and why they may differ ("" if they may not)


def import_tasks() -> Callable[[str], Any]:
    """Import lmms-eval's modules without its own __init__, which imports everything."""
    root = Path(str(importlib.util.find_spec("lmms_eval").submodule_search_locations[0]))  # type: ignore[union-attr]
    for name, folder in (("lmms_eval", root), ("lmms_eval.tasks", root / "tasks")):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    importlib.import_module("loguru").logger.remove()
    registry = types.ModuleType("lmms_eval.api.registry")  # the real one imports torch, to register models
    registry.register_metric = registry.register_aggregation = lambda *_, **__: lambda function: function  # type: ignore
    sys.modules["lmms_eval.api.registry"] = registry
    return lambda name: importlib.import_module(f"lmms_eval.{name}")


def check_vqa(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    prediction = make.short()
    answers = make.annotators(prediction)
    doc = {"question_id": 0, "answers": [{"answer": answer, "answer_id": n} for n, answer in enumerate(answers)]}
    processor = load("tasks._task_utils.vqa_eval_metric").EvalAIAnswerProcessor()

    def normalised(text: str) -> str:
        return processor.process_digit_article(processor.process_punctuation(" ".join(text.split("\n")).strip()))

    both = vqa.leave_one_out(normalised(prediction), [normalised(answer) for answer in answers])
    expected = load("tasks.vqav2.utils").vqav2_process_results(doc, [prediction])["exact_match"]
    reason = "references normalised too" if abs(both - expected) < 1e-9 else ""
    yield "vqav2, raw references", (vqa.vqa_accuracy(prediction, answers), expected, reason)
    released = [normalised(answer) for answer in answers]  # the published annotations are normalised already
    yield "vqav2", (vqa.vqa_accuracy(prediction, released), expected, "")
    for name in ("textvqa", "vizwiz_vqa", "ok_vqa"):
        score = getattr(load(f"tasks.{name}.utils"), f"{name}_process_results")
        expected = score({"question_id": 0, "answers": list(answers)}, [prediction])["exact_match"]
        yield name, (vqa.evalai_accuracy(prediction, answers), expected, "")


def check_yes_no(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    prediction, answer = make.yes_no(), make.random.choice(["yes", "no"])
    doc = {"question_id": 0, "answer": answer, "category": "existence"}
    expected = load("tasks.pope.utils").pope_process_results(doc, [prediction])["pope_accuracy"]["score"]
    sentence = "" if prediction.strip().lower() in ("yes", "no") else "more than the one word"
    yield "pope", (pope.score(prediction, answer), expected, sentence)
    expected = load("tasks.mme.utils").mme_process_results(doc, [prediction])["mme_perception_score"]["score"]
    short = "one letter, or a full stop inside" if len(prediction.strip()) == 1 or "." in prediction[:-1] else ""
    yield "mme", (mme.score(prediction, answer), expected, short)


def letters_by(load: Callable[[str], Any], prediction: str, options: list[str]) -> dict[str, str]:
    """The letter that each of lmms-eval's extractors finds, "" for none. MMMU's draws one where it finds none."""
    named = dict(zip(LETTERS, options, strict=False))
    extract = load("tasks._task_utils.mcq_extract").extract_mcq_answer
    parse = load("tasks._task_utils.mmmu_mcq_utils").parse_mmmu_multi_choice_response
    infer = load("tasks.mmbench.mmbench_evals").MMBench_Evaluator().can_infer
    return {
        "mmstar, realworldqa, videomme": extract(prediction, list(named)),
        "mmmu, nextqa (choices)": parse(prediction, list(named), named),
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
    yield "mvbench", (ours, float(load("tasks.mvbench.utils").mcq_acc(answer, prediction)), free)


def print_forms(make: Answers, load: Callable[[str], Any], count: int) -> None:
    """For every form of an answer, how often each extractor names the letter that is meant, in percent."""
    named: dict[str, Counter[str]] = {}
    for _ in range(count):
        options = make.options()
        prediction, meant, form = make.choice(options)
        found = {"ours": choices.letter(prediction, options)} | letters_by(load, prediction, options)
        named.setdefault(form, Counter()).update(["n", *(name for name, letter in found.items() if letter == meant)])
    columns = ["ours", "mmstar, realworldqa, videomme", "mmmu, nextqa (choices)", "mmbench"]
    print(f"\n{'form':<46} " + " | ".join(columns))
    for form, counts in named.items():
        print(f"{form!r:<46} " + " | ".join(f"{100 * counts[name] / counts['n']:.0f}" for name in columns))


def check_texts(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    prediction, references = make.short(), [make.short() for _ in range(3)]
    references.append(prediction[:-1] if make.random.random() < 0.5 else make.short())
    metrics = load("api.metrics")
    yield "docvqa, infovqa", (anls.anls(prediction, references), metrics.anls(references, [prediction])["anls"], "")
    options = {"ignore_case": True, "ignore_punctuation": True}
    matched = metrics.exact_match_hf_evaluate([prediction], [references[-1]], **options)["exact_match"]
    ragged = "white space" * any(mark in f"{prediction}{references[-1]}" for mark in " \n\t")
    yield "gqa", (exact.exact_match(prediction, references[-1]), float(matched), ragged)
    number, target = make.number(), make.number().strip()
    expected = load("tasks.chartqa.utils").chartqa_process_results({"type": "human_test", "answer": target}, [number])
    yield (
        "chartqa",
        (relaxed.relaxed_match(number, target), expected["relaxed_overall"], "white space" * (" " in number)),
    )
    dataset = make.random.choice(["HME100k", "IIIT5K"])
    doc = {"answer": references, "dataset": dataset, "question_type": "Regular Text Recognition"}
    expected = load("tasks.ocrbench.utils").ocrbench_process_results(doc, [prediction])["ocrbench_accuracy"]["score"]
    yield "ocrbench", (ocrbench.contains_answer(prediction, references, dataset), float(expected), "")
    mmmu, gold = load("tasks.mmmu.utils"), make.random.choice(["12", "1,000", "red", "x", "3.14159", "Dark Red"])
    answer = make.open_answer(make.random.choice([gold, gold, "7", "blue"]))
    expected = mmmu.eval_open([gold], mmmu.parse_open_response(answer))
    yield "mmmu (open)", (open_answers.open_match(answer, [gold]), float(expected), "")


def check_captions(make: Answers, count: int) -> Iterator[tuple[str, Pair]]:
    """CIDEr of `count` captions: pycocoevalcap's own pipeline, ours with its tokeniser, and with our tokeniser."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captioned = [[make.caption() for _ in range(4)] for _ in range(count)]
    rows = [{"prediction": first, "extra": {"answers": rest}} for first, *rest in captioned]
    tokenise = PTBTokenizer().tokenize
    predicted = tokenise({n: [{"caption": row["prediction"]}] for n, row in enumerate(rows)})
    expected = tokenise({n: [{"caption": text} for text in row["extra"]["answers"]] for n, row in enumerate(rows)})
    score = float(Cider().compute_score(expected, predicted)[0])
    jar = ptb.find_jar()
    assert jar is not None, "needs Java"
    yield "CIDEr, Java tokeniser", (captions.cider(rows, jar)["cider"], score, "")
    yield "CIDEr, our tokeniser", (captions.cider(rows, None)["cider"], score, "")


def main(count: int) -> int:
    """Compare, print a table, and return the exit code."""
    load, make = import_tasks(), Answers(0)
    random.seed(0)  # MMMU's extractor draws from it
    tally: dict[str, Counter[str]] = {}
    unexplained: list[str] = []

    def note(name: str, pair: Pair) -> None:
        ours, theirs, reason = pair
        same = ours == theirs if isinstance(ours, str) else abs(ours - theirs) < 1e-9
        tally.setdefault(name, Counter())["same" if same else reason or "UNEXPLAINED"] += 1
        if not same and not reason:
            unexplained.append(f"{name}: ours {ours!r}, theirs {theirs!r}")

    for _ in range(count):
        for check in (check_vqa, check_yes_no, check_choices, check_texts):
            for name, pair in check(make, load):
                note(name, pair)
    for name, pair in check_captions(make, count):
        note(name, pair)
    for name, counts in tally.items():
        differing = ", ".join(f"{number} {reason}" for reason, number in counts.items() if reason != "same")
        print(f"{name:<30} {counts['same']:>6} same  {differing}")
    print_forms(make, load, count)
    print("\n".join(unexplained[:20]))
    return 1 if unexplained else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=5000, help="answers of each kind")
    sys.exit(main(parser.parse_args().count))
