"""Checks of what the tower knows and where its [CLS] token looks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from scripts.tiny_model.corpus import Corpus
from scripts.tiny_model.tower import encode, inner, normalise
from scripts.tiny_model.tower_training import Heads, Targets


@torch.no_grad()
def read_out(tower: CLIPVisionModel, heads: Heads, corpus: Corpus, device: torch.device) -> dict[str, float]:
    """Share of objects whose kind, colour, digit and word the patch head names right, summed over their patches."""
    targets = Targets(corpus)
    right: dict[str, list[bool]] = {}
    for start in range(0, len(corpus), 100):
        penultimate, _ = encode(tower, normalise(corpus.images[start : start + 100], device))
        scores = heads.patch(penultimate[:, 1:]).cpu().split(heads.sizes, -1)
        for row, scene in enumerate(corpus.scenes[start : start + 100]):
            for k in range(len(scene.objects)):
                mine = targets.owner[start + row] == k
                for column, name in enumerate(("kind", "color", "digit", "word")):
                    label = int(targets.table[start + row, k, column])
                    if label >= 0:
                        right.setdefault(name, []).append(int(scores[column][row, mine].sum(0).argmax()) == label)
    return {name: float(np.mean(hits)) for name, hits in right.items()}


@torch.no_grad()
def cls_share_on_objects(tower: CLIPVisionModel, corpus: Corpus, device: torch.device) -> dict[str, float]:
    """Share of penultimate-layer [CLS] attention on object patches, and of object patches among all patches."""
    penultimate_layer = inner(tower).encoder.layers[-2]
    caught: list[Tensor] = []
    hook = penultimate_layer.self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: caught.append(kwargs["hidden_states"]), with_kwargs=True
    )
    mass, area = [], []
    for start in range(0, len(corpus), 100):
        encode(tower, normalise(corpus.images[start : start + 100], device))
        attention = _cls_attention(penultimate_layer.self_attn, caught.pop()).cpu()
        owned = torch.from_numpy(corpus.owner[start : start + 100]) >= 0
        mass.append((attention * owned).sum(1) / attention.sum(1))
        area.append(owned.float().mean(1))
    hook.remove()
    return {"attention": torch.cat(mass).mean().item(), "area": torch.cat(area).mean().item()}


def _cls_attention(attention: nn.Module, hidden: Tensor) -> Tensor:
    """Attention from [CLS] to the patches, averaged over heads, (B, 144), from the layer's normalised input."""
    heads = attention.num_heads
    query = attention.q_proj(hidden[:, :1]).unflatten(-1, (heads, -1)).transpose(1, 2)
    key = attention.k_proj(hidden).unflatten(-1, (heads, -1)).transpose(1, 2)
    weights = (query @ key.transpose(-1, -2) * attention.scale).softmax(-1)
    return weights.mean(1)[:, 0, 1:]
