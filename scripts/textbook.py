"""Plain forms of the selections that methods compute faster, written from their definitions: opponents and yardsticks.

One image at a time, no batching and no shortcut: DivPrune takes the minimum over all selected tokens anew in each step,
PruMerge merges token by token, VisPruner multiplies the features anew in each round, VisionZip averages target by
target. ToMe and PiToMe, published without loops, are in the form of ToMe's appendix D: batches, gather, scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import elu, normalize

from vlmprune.methods.base import Selection, Signals


def divprune(signals: Signals, k: int) -> Selection:
    """Max-min diversity, O(k^2 N)."""
    x = normalize(signals.projected[0], dim=1)
    return Selection(max_min(1 - x @ x.T, k).sort().values[None])


def max_min(distance: Tensor, k: int) -> Tensor:
    """The greedy part alone: `k` of N by distance [N, N]."""
    selected = [int(distance.sort(dim=0).values[1].argmax())]  # the smallest distance is that to itself
    while len(selected) < k:
        gain = distance[selected].amin(dim=0)
        gain[selected] = -1
        selected.append(int(gain.argmax()))
    return torch.tensor(selected)


def cdpruner(signals: Signals, k: int) -> Selection:
    """A determinantal point process of relevance and similarity."""
    x, relevance = normalize(signals.projected[0], dim=1), -signals.text_relevance[0]
    relevance = (relevance - relevance.min() + 1e-6) / (relevance.max() - relevance.min())
    return Selection(map_dpp(relevance[:, None] * (x @ x.T) * relevance, k).sort().values[None])


def map_dpp(kernel: Tensor, k: int) -> Tensor:
    """The greedy part alone: `k` of N by kernel [N, N] and its Cholesky recurrence."""
    gain, rows, selected = kernel.diagonal().clone(), kernel.new_zeros(k, len(kernel)), []
    for step in range(k):
        best = int(gain.argmax())
        rows[step] = (kernel[best] - rows[:step, best] @ rows[:step]) / gain[best].sqrt()
        gain = gain - rows[step].square()
        gain[best] = -math.inf
        selected.append(best)
    return torch.tensor(selected)


def vispruner(signals: Signals, k: int) -> Selection:
    """Half of k by attention, half by dropping duplicates."""
    order = signals.cls_attention[-1, 0].mean(dim=0).argsort(descending=True, stable=True)
    important, rest = order[: k // 2], order[k // 2 :]
    while len(rest) > k - k // 2:
        x = normalize(signals.features[0, rest], dim=1)
        duplication = (x[0::2] @ x[1::2].T).amax(dim=1)
        dropped = min(8, len(rest) - (k - k // 2), len(duplication))
        ranked = duplication.argsort(descending=True, stable=True)
        rest = torch.cat([rest[0::2][ranked[dropped:]], rest[1::2]])
    return Selection(torch.cat([important, rest]).sort().values[None])


def visionzip(signals: Signals, k: int) -> Selection:
    """[CLS], the most attended patches, and a share of 10 in 64 of targets that the others are averaged into."""
    h, n = signals.features[0], signals.features.shape[1]
    contextual = max(1, math.floor(k * 10 / 64 + 0.5))
    dominant = signals.cls_attention[-1, 0].sum(dim=0).argsort(descending=True, stable=True)[: k - contextual - 1]
    dominant = dominant.sort().values
    rest = torch.tensor(sorted(set(range(n)) - set(dominant.tolist())))
    step = len(rest) // contextual
    targets = rest[: contextual * step : step]
    others = torch.tensor(sorted(set(rest.tolist()) - set(targets.tolist())))
    key = normalize(signals.keys[-1, 0, :, 1:].mean(dim=0), dim=1)
    closest = (key[others] @ key[targets].T).argmax(dim=1)
    merged = [signals.cls_feature, h[dominant]]
    for number, target in enumerate(targets.tolist()):
        assigned = others[closest == number]
        merged.append((h[target] + (h[assigned].mean(dim=0) if len(assigned) else 0))[None])
    first_free = min(set(others.tolist()), default=0)
    return Selection(torch.cat([torch.tensor([first_free]), dominant, targets])[None], torch.cat(merged)[None])


def prumerge(signals: Signals, k: int) -> Selection:
    """The k - 1 most attended tokens, each merged with its neighbours, and the extra."""
    keys, attention = _one_head(signals)
    order = attention.argsort(descending=True, stable=True)
    return _merge_one_by_one(signals.features[0], keys, attention, order[: k - 1], order[k - 1 :])


def prumerge_plus(signals: Signals, k: int) -> Selection:
    """Half of them at the centres of equal intervals, half the most attended of the others."""
    keys, attention = _one_head(signals)
    n, count = len(attention), (k - 1) // 2
    sampled = torch.tensor([(2 * i + 1) * n // (2 * count) for i in range(count)])
    order = attention.argsort(descending=True, stable=True)
    others = order[~torch.isin(order, sampled)]
    kept = torch.cat([others[: k - 1 - count], sampled])
    return _merge_one_by_one(signals.features[0], keys, attention, kept, others[k - 1 - count :])


def _one_head(signals: Signals) -> tuple[Tensor, Tensor]:
    """Keys [N, C] of length 1, and the [CLS] row [N], with all heads taken as one."""
    keys = signals.keys[-1, 0].transpose(0, 1).flatten(1)
    query = signals.queries[-1, 0, :, 0].flatten()
    attention = (keys @ query / math.sqrt(len(query))).softmax(dim=0)[1:]
    return normalize(keys[1:], dim=1), attention


def _merge_one_by_one(features: Tensor, keys: Tensor, attention: Tensor, kept: Tensor, rest: Tensor) -> Selection:
    merged = []
    for token in kept.tolist():
        others = torch.cat([torch.arange(token), torch.arange(token + 1, len(keys))])
        nearest = others[(keys[others] @ keys[token]).topk(32).indices]
        merged.append(features[token] + (attention[nearest, None] * features[nearest]).sum(dim=0))
    merged.append((attention[rest, None] * features[rest]).sum(dim=0))
    return Selection(torch.cat([kept, rest[:1]])[None], torch.stack(merged)[None])


def tome(hidden: Tensor, counts: Sequence[int], depth: int) -> Tensor:
    """hidden [B, T, C], [CLS] first, after `counts` merges by bipartite soft matching in turn."""
    for r in counts:
        hidden = _tome_layer(hidden, r)
    return hidden


def pitome(hidden: Tensor, counts: Sequence[int], depth: int) -> Tensor:
    """hidden [B, T, C] after `counts` merges: of ToMe below layer 13 of 24, by energy from there on."""
    for layer, r in enumerate(counts):
        plain = layer < 13 * depth // 24
        hidden = _tome_layer(hidden, r) if plain else _pitome_layer(hidden, r, 0.9 - 0.9 * layer / depth)
    return hidden


def _tome_layer(hidden: Tensor, r: int) -> Tensor:
    x = normalize(hidden, dim=2)
    cosine = x[:, 0::2] @ x[:, 1::2].mT
    cosine[:, 0] = -math.inf
    best, nearest = cosine.max(dim=2)
    order = best.argsort(dim=1, descending=True, stable=True)
    gone, stay = order[:, :r], order[:, r:].sort(dim=1).values
    even, odd = hidden[:, 0::2], hidden[:, 1::2]
    return torch.cat([_rows(even, stay), _mean_into(odd, _rows(even, gone), nearest.gather(1, gone))], dim=1)


def _pitome_layer(hidden: Tensor, r: int, margin: float) -> Tensor:
    patches = hidden[:, 1:]
    x = normalize(patches, dim=2)
    cosine = x @ x.mT
    order = elu(cosine - margin).mean(dim=2).argsort(dim=1, descending=True, stable=True)
    a, b, alone = order[:, 0 : 2 * r : 2], order[:, 1 : 2 * r : 2], order[:, 2 * r :]
    between = _rows(cosine, a).gather(2, b.unsqueeze(1).expand(-1, r, -1))
    merged = _mean_into(_rows(patches, b), _rows(patches, a), between.argmax(dim=2))
    return torch.cat([hidden[:, :1], _rows(patches, alone), merged], dim=1)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    return x.gather(1, rows.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _mean_into(x: Tensor, sources: Tensor, into: Tensor) -> Tensor:
    return x.scatter_reduce(1, into.unsqueeze(2).expand_as(sources), sources, "mean")
