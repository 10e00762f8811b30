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
import os
import random
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crosscheck_answers import Answers
from crosscheck_choices import check_choices, print_forms

from vlmprune.benchmarks.scoring import captions, judge_protocols, ocrbench, open_answers, text_match, vqa, yes_no

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
    os.environ.setdefault("HF_HOME", "/nowhere")  # read by tasks about videos, and not used here
    for name, part in (("extraction", "ExtendedRegexFilter"), ("transformation", "MapFilter")):
        module = types.ModuleType(f"lmms_eval.filters.{name}")  # the real ones import datasets
        setattr(module, part, type(part, (), {"__init__": lambda *_, **__: None}))
        sys.modules[module.__name__] = module
    return lambda name: importlib.import_module(f"lmms_eval.{name}")


def check_vqa(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    prediction = make.short()
    answers = make.annotators(prediction)
    doc = {"question_id": 0, "answers": [{"answer": answer, "answer_id": n} for n, answer in enumerate(answers)]}
    processor = load("tasks._task_utils.vqa_eval_metric").EvalAIAnswerProcessor()

    def normalised(text: str) -> str:
        return processor.process_digit_article(processor.process_punctuation(" ".join(text.split("\n")).strip()))

    expected = load("tasks.vqav2.utils").vqav2_process_results(doc, [prediction])["exact_match"]
    unanimous = "unanimous references, which VQA's script leaves as they are" if len(set(answers)) == 1 else ""
    yield "vqav2, raw references", (vqa.vqa_accuracy(prediction, answers), expected, unanimous)
    released = [normalised(answer) for answer in answers]  # the published annotations are normalised already
    submitted = vqa.evalai_answer(prediction)  # as LLaVA submits it, and our benchmark gives it to the script
    doc = {"question_id": 0, "answers": [{"answer": text, "answer_id": n} for n, text in enumerate(released)]}
    expected = load("tasks.vqav2.utils").vqav2_process_results(doc, [submitted])["exact_match"]
    yield "vqav2", (vqa.vqa_accuracy(submitted, released), expected, "")
    for name in ("textvqa", "vizwiz_vqa", "ok_vqa"):
        score = getattr(load(f"tasks.{name}.utils"), f"{name}_process_results")
        expected = score({"question_id": 0, "answers": list(answers)}, [prediction])["exact_match"]
        yield name, (vqa.evalai_accuracy(prediction, answers), expected, "")


def check_yes_no(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    prediction, answer = make.yes_no(), make.random.choice(["yes", "no"])
    doc = {"question_id": 0, "answer": answer, "category": "existence"}
    expected = load("tasks.pope.utils").pope_process_results(doc, [prediction])["pope_accuracy"]["score"]
    sentence = "" if prediction.strip().lower() in ("yes", "no") else "more than the one word"
    yield "pope", (yes_no.score_pope(prediction, answer), expected, sentence)
    expected = load("tasks.mme.utils").mme_process_results(doc, [prediction])["mme_perception_score"]["score"]
    short = "one letter, or a full stop inside" if len(prediction.strip()) == 1 or "." in prediction[:-1] else ""
    yield "mme", (yes_no.score_mme(prediction, answer), expected, short)


def check_texts(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    prediction, references = make.short(), [make.short() for _ in range(3)]
    references.append(prediction[:-1] if make.random.random() < 0.5 else make.short())
    metrics = load("api.metrics")
    yield (
        "docvqa, infovqa",
        (text_match.anls(prediction, references), metrics.anls(references, [prediction])["anls"], ""),
    )
    options = {"ignore_case": True, "ignore_punctuation": True}
    matched = metrics.exact_match_hf_evaluate([prediction], [references[-1]], **options)["exact_match"]
    ragged = "white space" * any(mark in f"{prediction}{references[-1]}" for mark in " \n\t")
    yield "gqa", (text_match.gqa_match(prediction, references[-1]), float(matched), ragged)
    if len(references[-1].strip()) != 1:  # one letter is an option's
        found = load("tasks.realworldqa.utils").realworldqa_process_results({"answer": references[-1]}, [prediction])
        marks = "punctuation, white space or a number as a word" if found["exact_match"] == 0 else ""
        ours = text_match.exact_match(text_match.as_digits(prediction), text_match.as_digits(references[-1]))
        yield "realworldqa (open)", (ours, found["exact_match"], marks)
    number, target = make.number(), make.number().strip()
    expected = load("tasks.chartqa.utils").chartqa_process_results({"type": "human_test", "answer": target}, [number])
    yield (
        "chartqa",
        (text_match.relaxed_match(number, target), expected["relaxed_overall"], "white space" * (" " in number)),
    )
    dataset = make.random.choice(["HME100k", "IIIT5K"])
    doc = {"answer": references, "dataset": dataset, "question_type": "Regular Text Recognition"}
    expected = load("tasks.ocrbench.utils").ocrbench_process_results(doc, [prediction])["ocrbench_accuracy"]["score"]
    yield "ocrbench", (ocrbench.contains_answer(prediction, references, dataset), float(expected), "")
    mmmu, gold = load("tasks.mmmu.utils"), make.random.choice(["12", "1,000", "red", "x", "3.14159", "Dark Red"])
    answer = make.open_answer(make.random.choice([gold, gold, "7", "blue"]))
    expected = mmmu.eval_open([gold], mmmu.parse_open_response(answer))
    yield "mmmu (open)", (open_answers.open_match(answer, [gold]), float(expected), "")


def check_judges(make: Answers, load: Callable[[str], Any]) -> Iterator[tuple[str, Pair]]:
    """Return what is read from a judge's reply; None where it is refused."""

    def read(parse: Callable[[str], dict[str, float]], reply: str, *names: str) -> str:
        try:
            return str([parse(reply)[name] for name in names])
        except ValueError:
            return "refused"

    reply = make.ratings()
    pair = load("tasks.ferret.utils").parse_score(reply)  # LLaVA's own, eval_gpt_review_bench.py
    theirs = "refused" if pair == [-1, -1] else str(pair)
    outside = "rating out of range" if theirs != "refused" and not all(1 <= x <= 10 for x in pair) else ""
    spaces = "two spaces" if theirs == "refused" and len(reply.split("\n")[0].replace(",", " ").split()) == 2 else ""
    yield (
        "llava_wild (reply)",
        (read(judge_protocols.parse_llava_wild, reply, "reference", "model"), theirs, outside or spaces),
    )
    reply = make.video_verdict()
    found = load("tasks.activitynetqa.utils").parse_score(reply)
    theirs = "refused" if found is None else str([float(found[0] == "yes"), float(found[1])])
    reason = "no verdict, or a rating out of range" if found else "a number as text, or words around the dictionary"
    sound = found is not None and found[0] in ("yes", "no") and 0 <= found[1] <= 5 and "true" not in reply
    yield (
        "video_qa (reply)",
        (read(judge_protocols.parse_video_qa, reply, "score", "rating"), theirs, "" if sound else reason),
    )


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
    jar = captions.find_jar()
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
        for check in (check_vqa, check_yes_no, check_choices, check_texts, check_judges):
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
