"""Trains the vision tower.

It learns to describe the scene from its [CLS] token (as CLIP learns captions) and to label its patches. Both are
read at the penultimate layer, where LLaVA takes its features, and [CLS] at the last layer too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModel

from scripts.tiny_model.corpus import KINDS, Corpus
from scripts.tiny_model.scenes import COLORS, GRID, SHAPES, WORDS
from scripts.tiny_model.tower import build_tower, encode, normalise

PAIRS = len(SHAPES) * len(COLORS)
CAPTION_LABELS = PAIRS + 10 + len(WORDS)  # colour-shape pairs, digits, words: what a caption would mention
MAX_COUNT = 3
FEW_PATCHES = 64  # patches per image in the first part of training


class Heads(nn.Module):
    """Linear read-outs used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.caption = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CAPTION_LABELS + len(SHAPES) * (MAX_COUNT + 1)))
            for _ in range(2)
        )
        sizes = {
            "kind": len(KINDS) + 1,
            "color": len(COLORS),
            "digit": 10,
            "word": len(WORDS),
            "box": 4,
            "center": 1,
        }
        self.sizes = list(sizes.values())
        self.patch = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))

    def losses(self, penultimate: Tensor, last: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """All loss terms, scalars."""
        terms = {}
        for name, head, states in zip(("penultimate", "last"), self.caption, (penultimate, last), strict=True):
            out = head(states[:, 0]).float()
            labels, counts = out[:, :CAPTION_LABELS], out[:, CAPTION_LABELS:].unflatten(1, (len(SHAPES), -1))
            bce = F.binary_cross_entropy_with_logits(labels, target["caption"], reduction="none")
            terms[f"caption_{name}"] = bce.sum(1).mean() / 4
            terms[f"count_{name}"] = F.cross_entropy(counts.flatten(0, 1), target["count"].flatten())
        kind, color, digit, word, box, center = self.patch(penultimate[:, 1:]).float().split(self.sizes, -1)
        flat = target["patch"].flatten(0, 1)  # kind, color, digit, word
        terms["kind"] = F.cross_entropy(kind.flatten(0, 1), flat[:, 0])
        for column, (name, out) in enumerate((("color", color), ("digit", digit), ("word", word)), start=1):
            chosen = flat[:, column] >= 0
            terms[name] = F.cross_entropy(out.flatten(0, 1)[chosen], flat[chosen, column])
        owned = flat[:, 0] < len(KINDS)
        terms["box"] = 20 * F.smooth_l1_loss(box.flatten(0, 1)[owned], target["box"].flatten(0, 1)[owned], beta=0.05)
        terms["center"] = F.binary_cross_entropy_with_logits(center[..., 0], target["center"])
        return terms


class Targets:
    """Label tensors of a whole corpus; `batch` gathers those of some scenes and patches."""

    def __init__(self, corpus: Corpus) -> None:
        self.owner = torch.from_numpy(corpus.owner).long()
        table = torch.from_numpy(corpus.table).long()
        background = torch.tensor([len(KINDS), -1, -1, -1]).expand(len(table), 1, 4)
        self.table = torch.cat((table, background), 1)  # row -1 (the last) describes background
        boxes = torch.from_numpy(corpus.boxes)
        self.boxes = torch.cat((boxes, torch.zeros_like(boxes[:, :1])), 1)
        self.caption, self.count = self._scene_labels(table)

    @staticmethod
    def _scene_labels(table: Tensor) -> tuple[Tensor, Tensor]:
        kind, color, digit, word = table.unbind(-1)
        caption = torch.zeros(len(table), CAPTION_LABELS)
        pair = kind * len(COLORS) + color
        for labels, there in (
            (pair, color >= 0),
            (PAIRS + digit, digit >= 0),
            (PAIRS + 10 + word, word >= 0),
        ):
            rows, columns = there.nonzero(as_tuple=True)
            caption[rows, labels[rows, columns]] = 1
        count = torch.stack([(kind == k).sum(1) for k in range(len(SHAPES))], 1)
        return caption, count.clamp(max=MAX_COUNT)

    def batch(self, index: Tensor, keep: Tensor | None, device: torch.device) -> dict[str, Tensor]:
        """caption (B, L), count (B, 6), patch (B, P, 4), box (B, P, 4), center (B, P)."""
        owner = self.owner[index] % self.table.shape[1]
        boxes = self.boxes[index].gather(1, owner[..., None].expand(-1, -1, 4))
        patch = self.table[index].gather(1, owner[..., None].expand(-1, -1, 4))
        place = torch.arange(GRID * GRID)
        column, row = (boxes[..., 0] * GRID).long(), (boxes[..., 1] * GRID).long()
        center = ((place == row * GRID + column) & (patch[..., 0] < len(KINDS))).float()
        if keep is not None:
            take = keep[..., None].expand(-1, -1, 4)
            boxes, patch, center = boxes.gather(1, take), patch.gather(1, take), center.gather(1, keep)
        found = {"caption": self.caption[index], "count": self.count[index]}
        found |= {"patch": patch, "box": boxes, "center": center}
        return {name: value.to(device) for name, value in found.items()}


def few_patches(owner: Tensor, generator: torch.Generator) -> Tensor:
    """FEW_PATCHES patch numbers per scene, (B, 64): objects first, then random background; owner is (B, 144)."""
    order = torch.rand(owner.shape, generator=generator) + (owner >= 0)
    return order.topk(FEW_PATCHES, dim=1).indices


def cosine(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless shuffled index batches."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % size].split(size)


def train_tower(
    corpus: Corpus,
    steps: int,
    device: torch.device,
    seed: int,
    log: Callable[[str], None],
    batch_size: int = 64,
) -> tuple[CLIPVisionModel, Heads]:
    """The first 70 % of the steps see 64 patches an image, which is more than twice as fast; the rest all 144."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    tower = build_tower().to(device)
    heads = Heads(tower.config.hidden_size).to(device)
    weights = [*tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: cosine(s, steps, warmup=min(100, steps // 10 + 1))
    )
    targets = Targets(corpus)
    for step, index in zip(range(steps), batches(len(corpus), batch_size, generator), strict=False):
        keep = few_patches(targets.owner[index], generator) if step < 0.7 * steps else None
        pixels = normalise(corpus.images[index.numpy()], device)
        with torch.autocast(device.type, torch.bfloat16):
            states = encode(tower, pixels, None if keep is None else keep.to(device))
            terms = heads.losses(*states, targets.batch(index, keep, device))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            shown = " ".join(f"{name} {value.item():.3f}" for name, value in terms.items())
            log(f"tower {step} {shown}")
    return tower.eval(), heads.eval()
