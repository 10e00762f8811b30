"""Prints the figures of MODEL_CARD.md: python -m scripts.tiny_model.card_scores [--limit N]

The packed scorer hides visual tokens in the attention mask, which equals removing them before the decoder. The same
questions then go through `generate` in batches, as a user would ask them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from scripts.tiny_model.build_test_split import TEST_SEED
from scripts.tiny_model.corpus import Corpus, label_arrays, make_corpus
from scripts.tiny_model.decoder import cache_features, score
from scripts.tiny_model.packing import VISUAL_TOKENS, Packer
from scripts.tiny_model.questions import Question
from scripts.tiny_model.scenes import Scene, SceneObject
from scripts.tiny_model.tower_checks import cls_share_on_objects
from vlmprune.tiny import CHECKPOINT
from vlmprune.tiny.testset import load_scenes

KEPT = 14  # of 144 visual tokens: a reduction of 90 %
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--limit", type=int, help="number of scenes")
    options = parser.parse_args()

    corpus = frozen_corpus(options.limit)
    processor = AutoProcessor.from_pretrained(options.checkpoint, local_files_only=True)
    model = LlavaForConditionalGeneration.from_pretrained(
        options.checkpoint, dtype=torch.float32, local_files_only=True
    ).eval()
    packer = Packer(processor.tokenizer)
    cpu = torch.device("cpu")
    features = cache_features(model.model.vision_tower, corpus, cpu)

    show("unpruned", score(model, packer, corpus, features))
    show(
        "blind",
        score(model, packer, corpus, features, lambda b: torch.zeros(b, VISUAL_TOKENS, dtype=torch.bool)),
    )
    show("text-only guess", guess_score(corpus))
    for seed in SEEDS:
        show(
            f"random {KEPT} of {VISUAL_TOKENS}, seed {seed}",
            score(model, packer, corpus, features, random_keep(seed)),
        )
    show("[CLS] attention on objects", cls_share_on_objects(model.model.vision_tower, corpus, cpu))
    show("through generate", {"all": generate_score(model, processor, corpus)})


def show(name: str, figures: dict[str, float]) -> None:
    print(name, json.dumps({key: round(value, 3) for key, value in figures.items()}), flush=True)


def random_keep(seed: int) -> Callable[[int], torch.Tensor]:
    """Draws KEPT visual tokens per image, bool (B, 144)."""
    generator = torch.Generator().manual_seed(seed)

    def keep(count: int) -> torch.Tensor:
        chosen = torch.rand(count, VISUAL_TOKENS, generator=generator).topk(KEPT, dim=1).indices
        return torch.zeros(count, VISUAL_TOKENS, dtype=torch.bool).scatter(1, chosen, True)

    return keep


def guess_score(corpus: Corpus) -> dict[str, float]:
    """Return the score of the most frequent answer to each question text in 4,000 training scenes."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in make_corpus(TEST_SEED, "train", 4000).questions:
        for question in row:
            answers[question.text][question.answer] += 1
    right: dict[str, list[bool]] = defaultdict(list)
    for question in (q for row in corpus.questions for q in row):
        common = answers[question.text].most_common(1)
        hit = bool(common) and common[0][0] == question.answer
        right["all"].append(hit)
        right[question.category].append(hit)
    return {category: float(np.mean(hits)) for category, hits in right.items()}


def frozen_corpus(limit: int | None = None) -> Corpus:
    """The frozen test split in the form that the scorer reads."""
    scenes, questions, images = [], [], []
    for index, row in enumerate(load_scenes().select(range(limit)) if limit else load_scenes()):
        items = [SceneObject(**item | {"box": tuple(item["box"])}) for item in json.loads(row["objects"])]
        scenes.append(Scene("test", index, tuple(items), digit_instance=-1))  # the picture is already drawn
        questions.append([Question(q["type"], q["question"], q["answer"]) for q in row["questions"]])
        images.append(np.asarray(row["image"]))
    return Corpus(scenes, questions, np.stack(images), *label_arrays(scenes))


@torch.inference_mode()
def generate_score(model: LlavaForConditionalGeneration, processor: AutoProcessor, corpus: Corpus) -> float:
    """Share of right answers through the chat template and greedy `generate`, 40 questions a batch."""
    asked = [(corpus.images[n], q) for n, row in enumerate(corpus.questions) for q in row]
    right = 0
    for start in range(0, len(asked), 40):
        batch = asked[start : start + 40]
        content = [
            [{"type": "image", "image": picture}, {"type": "text", "text": question.text}]
            for picture, question in batch
        ]
        inputs = processor.apply_chat_template(
            [[{"role": "user", "content": parts}] for parts in content],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        output = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        answers = processor.batch_decode(output, skip_special_tokens=True)
        right += sum(answer.strip() == q.answer for answer, (_, q) in zip(answers, batch, strict=True))
    return right / len(asked)


if __name__ == "__main__":
    main()
