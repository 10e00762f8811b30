"""Trains projector and decoder on cached features of the frozen tower."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from scripts.tiny_model.corpus import KINDS, Corpus
from scripts.tiny_model.packing import IGNORED, Pack, Packer
from scripts.tiny_model.questions import CATEGORIES, ask
from scripts.tiny_model.scenes import COLORS, WORDS
from scripts.tiny_model.text import captions
from scripts.tiny_model.tower import encode, normalise
from scripts.tiny_model.tower_training import batches, cosine

# How many different questions of a category are asked about one scene; the late learners get more.
REPEATS = dict.fromkeys(CATEGORIES, 2) | {"relation": 4, "side": 3, "exist_adversarial": 4}
BATCH = 8  # scenes a step

Log = Callable[[str], None]


@torch.no_grad()
def cache_features(tower: CLIPVisionModel, corpus: Corpus, device: torch.device) -> Tensor:
    """Penultimate patch features without [CLS], float16 (N, 144, 192), on the device."""
    found = []
    for start in range(0, len(corpus), 100):
        penultimate, _ = encode(tower, normalise(corpus.images[start : start + 100], device))
        found.append(penultimate[:, 1:].half())
    return torch.cat(found)


def answer_logits(
    model: LlavaForConditionalGeneration,
    packer: Packer,
    pack: Pack,
    features: Tensor,
    keep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (M, V) at the M positions that predict something, and the projected features (B, 144, 128)."""
    visual = model.model.multi_modal_projector(features.float())
    embeds = model.get_input_embeddings()(pack.ids)
    start = packer.image_start
    embeds = torch.cat((embeds[:, :start], visual.to(embeds.dtype), embeds[:, start + visual.shape[1] :]), 1)
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=packer.mask(pack, keep),
        position_ids=pack.positions,
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[pack.labels != IGNORED]), visual


def align_targets(corpus: Corpus, packer: Packer) -> Tensor:
    """The two words of every object, its kind and its colour (or value), as token numbers (N, 6, 2)."""
    token = {w: packer.segment("", w)[0][-2] for w in (*KINDS, *COLORS, *WORDS, *"0123456789")}
    target = torch.zeros(*corpus.table.shape[:2], 2, dtype=torch.long)
    for n, scene in enumerate(corpus.scenes):
        for k, item in enumerate(scene.objects):
            target[n, k] = torch.tensor((token[item.kind], token[item.color or item.value]))
    return target


def alignment(model: LlavaForConditionalGeneration, visual: Tensor, owner: Tensor, words: Tensor) -> Tensor:
    """Projected patches of an object should name it: cross-entropy against the word embeddings."""
    owned = owner >= 0
    wanted = words.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 2))[owned]
    logits = model.lm_head(F.normalize(visual[owned].float(), dim=-1) * 8)
    return sum(F.cross_entropy(logits.float(), wanted[:, i]) for i in (0, 1)) / 2


def to_device(pack: Pack, device: torch.device) -> Pack:
    return Pack(*(t.to(device, non_blocking=True) for t in (pack.ids, pack.positions, pack.labels, pack.segment)))


def lesson(corpus: Corpus, index: int, rng: np.random.Generator, shuffled: bool) -> list[tuple[str, str]]:
    """Fresh questions about a scene plus its captions.

    Captions in raster order are learned first, since a pointer that moves on suffices. In random order "red" has to
    find its object by content, which is what the questions need.
    """
    scene = corpus.scenes[index]
    asked = [(q.text, q.answer) for q in ask(scene, rng, REPEATS)]
    order = rng.permutation(len(scene.objects)) if shuffled else range(len(scene.objects))
    return asked + captions([scene.objects[int(k)] for k in order])


@dataclass(frozen=True)
class Stage:
    """One cosine cycle. The alignment loss decays over the first steps; captions are shuffled from a step on."""

    steps: int
    peak_rate: float
    aligned_steps: int = 0
    shuffled_from: int = 0
    squeezed: bool = False  # visual positions vary, see packing.squeezed


def train_decoder(
    model: LlavaForConditionalGeneration,
    packer: Packer,
    corpus: Corpus,
    features: Tensor,
    stage: Stage,
    seed: int,
    report: Callable[[int], None],
    log: Log,
) -> None:
    """AdamW on projector and language model; `report` is called every few hundred steps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng([seed, 99])
    steps = stage.steps
    device = features.device
    weights = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    matrices, vectors = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.peak_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: cosine(s, steps, warmup=min(100, steps)))
    owner, words = torch.from_numpy(corpus.owner).long(), align_targets(corpus, packer)
    sums: dict[str, float] = defaultdict(float)
    for step, index in zip(range(steps), batches(len(corpus), BATCH, generator), strict=False):
        pack = to_device(
            packer.pack(
                [lesson(corpus, int(i), rng, step >= stage.shuffled_from) for i in index],
                rng if stage.squeezed else None,
            ),
            device,
        )
        with torch.autocast(device.type, torch.bfloat16):
            logits, visual = answer_logits(model, packer, pack, features[index.to(device)])
            loss = F.cross_entropy(logits.float(), pack.labels[pack.labels != IGNORED])
            sums["loss"] += loss.item()
            weight = max(0.0, 1 - step / stage.aligned_steps) if stage.aligned_steps else 0.0
            if weight:
                aligned = alignment(model, visual, owner[index].to(device), words[index].to(device))
                sums["aligned"] += aligned.item()
                loss = loss + weight * aligned
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            shown = " ".join(f"{name} {value / 100:.3f}" for name, value in sums.items())
            log(f"decoder {step + 1} {shown}")
            sums.clear()
        if (step + 1) % 500 == 0 or step + 1 == steps:
            report(step + 1)


@torch.no_grad()
def score(
    model: LlavaForConditionalGeneration,
    packer: Packer,
    corpus: Corpus,
    features: Tensor,
    keep: Callable[[int], Tensor] | None = None,
    squeeze: np.random.Generator | None = None,
) -> dict[str, float]:
    """Share of right answers overall ("all") and per category; `keep(b)` gives bool (b, 144), kept visual tokens.

    `squeeze` varies the positions of the visual tokens, see packing.squeezed.

    An answer counts only when the word and the </s> behind it are both the most likely token.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(corpus), 20):
        rows = corpus.questions[start : start + 20]
        pack = to_device(packer.pack([[(q.text, q.answer) for q in row] for row in rows], squeeze), features.device)
        kept = keep(len(rows)).to(features.device) if keep else None
        logits, _ = answer_logits(model, packer, pack, features[start : start + 20], kept)
        wanted = pack.labels[pack.labels != IGNORED]
        hits = (logits.argmax(-1) == wanted).view(-1, 2).all(1).tolist()
        for question, hit in zip((q for row in rows for q in row), hits, strict=True):
            right[question.category].append(hit)
    everything = [hit for hits in right.values() for hit in hits]
    return {"all": float(np.mean(everything))} | {c: float(np.mean(right[c])) for c in CATEGORIES if c in right}
