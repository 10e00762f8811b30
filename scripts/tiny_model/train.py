"""Trains the embedded model from scratch: python -m scripts.tiny_model.train --out vlmprune/tiny/checkpoint

Everything is generated and trained here: scenes, vision tower, tokenizer, projector and decoder. Step counts and
seed are fixed; only the validation split is looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from scripts.tiny_model.assemble import build_model, build_processor, save_checkpoint, start_projector
from scripts.tiny_model.corpus import Corpus, make_corpus
from scripts.tiny_model.decoder import Stage, cache_features, score, train_decoder
from scripts.tiny_model.packing import Packer
from scripts.tiny_model.text import train_tokenizer, training_texts
from scripts.tiny_model.tower import build_tower
from scripts.tiny_model.tower_checks import cls_share_on_objects, read_out
from scripts.tiny_model.tower_training import train_tower

SEED = 2026
LOOK_UP = Stage(steps=5_500, peak_rate=2e-3, aligned_steps=1000, shuffled_from=2_200)
POSITIONS = Stage(steps=2_000, peak_rate=1e-3, squeezed=True)


@dataclass(frozen=True)
class Plan:
    """Sizes of a run, in scenes and optimiser steps."""

    tower_scenes: int = 32_000
    decoder_scenes: int = 16_000
    validation_scenes: int = 300
    tower_steps: int = 3_200
    look_up: Stage = LOOK_UP
    positions: Stage = POSITIONS


SMOKE = Plan(256, 128, 20, 4, Stage(4, 2e-3, aligned_steps=2, shuffled_from=2), Stage(4, 1e-3, squeezed=True))


def main() -> None:
    options = parse_options()
    plan = SMOKE if options.smoke else Plan()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(options.threads)
    started = time.monotonic()

    def log(text: str) -> None:
        print(f"[{time.monotonic() - started:6.0f}s] {text}", flush=True)

    validation = make_corpus(SEED, "validation", plan.validation_scenes)
    tower = trained_tower(options.tower, validation, plan, device, log)

    train = make_corpus(SEED, "train", plan.decoder_scenes)
    features, seen = (cache_features(tower, corpus, device) for corpus in (train, validation))
    log(f"cached features {tuple(features.shape)}")

    tokenizer = train_tokenizer(training_texts(train.scenes[:2000], train.questions[:2000]))
    processor = build_processor(tokenizer)
    torch.manual_seed(SEED)
    model = build_model(tower, tokenizer).to(device)
    start_projector(model, features[:500])
    packer = Packer(tokenizer)

    def report(step: int) -> None:
        result = score(model, packer, validation, seen)
        squeezed = score(model, packer, validation, seen, squeeze=np.random.default_rng(SEED))["all"]
        log(f"validation {step} " + json.dumps({k: round(v, 3) for k, v in (result | {"squeezed": squeezed}).items()}))
        save_checkpoint(model, processor, options.out)

    if options.decoder is None:
        train_decoder(model, packer, train, features, plan.look_up, SEED, report, log)
    else:
        model = LlavaForConditionalGeneration.from_pretrained(options.decoder, dtype=torch.float32).to(device)
    train_decoder(model, packer, train, features, plan.positions, SEED + 1, report, log)


def trained_tower(
    path: Path | None, validation: Corpus, plan: Plan, device: torch.device, log: Callable[[str], None]
) -> CLIPVisionModel:
    """The tower with weights rounded to half precision, as they will be stored; `path` resumes or keeps them."""
    tower = build_tower().to(device)
    if path is not None and path.exists():
        tower.load_state_dict(torch.load(path, map_location=device))
    else:
        train = make_corpus(SEED, "train", plan.tower_scenes)
        tower, heads = train_tower(train, plan.tower_steps, device, SEED, log)
        log("tower validation " + json.dumps(read_out(tower, heads, validation, device)))
        if path is not None:
            torch.save(tower.state_dict(), path)
    tower = tower.half().float().eval().requires_grad_(False)
    log("[CLS] attention on objects " + json.dumps(cls_share_on_objects(tower, validation, device)))
    return tower


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--tower", type=Path, help="file that keeps the trained tower; read when it exists")
    parser.add_argument("--decoder", type=Path, help="checkpoint after the first decoder stage; trains the second only")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--smoke", action="store_true", help="a few steps only, to see that everything runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
