"""PruMerge and PruMerge+ against their authors' code, and where theirs fails."""

import pytest
import torch

from tests.methods.golden import MERGED, Vectors, heads
from tests.methods.synthetic import image_of, kept_of, random_signals
from vlmprune.methods.base import Signals, Tower
from vlmprune.methods.prumerge import PruMerge, PruMergePlus, outliers

LARGE, SMALL = Vectors("prumerge_576"), Vectors("prumerge_small_adaptive")


def signals(vectors: Vectors, grid: tuple[int, int]) -> Signals:
    return Signals(
        grid=grid,
        queries=heads(vectors["q"], 4),
        keys=heads(vectors["k"], 4),
        features=vectors["feats_with_cls"][:, 1:],
    )


def without_outliers(images: int = 1) -> Signals:
    """Equal keys: the attention is flat, so that no quartile rule finds anything."""
    given = random_signals(images)
    given.keys = given.keys[:, :, :, :1].expand_as(given.keys)
    return given


@pytest.mark.parametrize(
    ("method", "vectors", "side", "indices", "merged"),
    [
        (PruMerge(), LARGE, 24, "pm_idx", "pm_out"),
        (PruMerge(), SMALL, 8, "keep_idx_in_output_order", "out"),
        (PruMergePlus(), LARGE, 24, "plus_idx", "plus_out"),
    ],
)
def test_adaptive(method: PruMerge, vectors: Vectors, side: int, indices: str, merged: str) -> None:
    out = method.select(signals(vectors, (side, side)), side**2)
    assert torch.equal(out.indices[:, :-1], vectors[indices])
    torch.testing.assert_close(out.features, vectors[merged], **MERGED)
    assert out.valid.all()


@pytest.mark.parametrize("name", ["pm", "pm8"])
def test_fixed_budget(name: str) -> None:
    k = LARGE[f"{name}_out"].shape[1]
    out = PruMerge(keep=k).select(signals(LARGE, (24, 24)), k)
    assert torch.equal(out.indices[:, :-1], LARGE[f"{name}_idx"])
    torch.testing.assert_close(out.features, LARGE[f"{name}_out"], **MERGED)
    assert out.valid is None


def test_plus_fixed_budget_keeps_what_the_authors_keep_and_fills_their_duplicates() -> None:
    """At 1/8 they keep 136 tokens, 8 of these twice, and forget 8 others; here it is 144."""
    given = signals(LARGE, (24, 24))
    out = PruMergePlus(keep=145).select(given, 145)
    slots, published = out.indices[0, :-1].tolist(), LARGE["plus8_idx"][0].tolist()
    twice = {token for token in published if published.count(token) == 2}
    forgotten = set(range(576)) - set(published) - set(LARGE["plus8_complement"][0].tolist())
    assert (len(set(published)), len(twice), len(forgotten)) == (136, 8, 8)
    assert len(set(slots)) == 144
    assert set(published) < set(slots)
    next_best = LARGE["cls_attn"][0].clone()
    next_best[published] = 0
    assert set(slots) - set(published) == set(next_best.topk(8).indices.tolist())

    # A kept token has the authors' value, unless one that they count twice or forget is among its neighbours.
    keys = torch.nn.functional.normalize(LARGE["k"][0, 1:], dim=1)
    similarity = (keys @ keys.T).fill_diagonal_(-1)
    neighbours = similarity.topk(32, dim=1).indices.tolist()
    same = [i for i in published if not (twice | forgotten) & {i, *neighbours[i]}]
    assert len(same) > 50
    ours, theirs = [slots.index(i) for i in same], [published.index(i) for i in same]
    torch.testing.assert_close(out.features[0, ours], LARGE["plus8_out"][0, theirs], **MERGED)

    left = LARGE["cls_attn"][0].clone()
    left[slots] = 0
    torch.testing.assert_close(out.features[0, -1], left @ given.features[0], **MERGED)


@pytest.mark.parametrize("method", [PruMerge(), PruMergePlus()], ids=["prumerge", "prumerge_plus"])
def test_adaptive_counts_do_not_depend_on_the_batch(method: PruMerge) -> None:
    """The authors' quartiles are those of the whole batch."""
    given = random_signals(images=4)
    given.queries[:, 1] *= 4  # one image with far more concentrated attention
    together = method.select(given, 48)
    counts = together.valid.sum(dim=1).tolist()
    assert len(set(counts)) > 1, "ragged counts are the point of this test"
    assert together.indices.shape[1] == max(counts)
    for image in range(4):
        alone = method.select(image_of(given, image), 48)
        assert kept_of(together, image) == kept_of(alone, 0)
        valid = together.features[image][together.valid[image]]
        torch.testing.assert_close(valid, alone.features[0][alone.valid[0]])
        padding = max(counts) - counts[image]
        assert together.valid[image].tolist() == [True] * counts[image] + [False] * padding
        assert len(set(together.indices[image].tolist())) == max(counts), "padding has slots of its own"


def test_an_image_without_outliers_is_one_token() -> None:
    given = without_outliers()
    out = PruMerge().select(given, 48)
    assert out.features.shape[1] == 1
    torch.testing.assert_close(out.features[0, 0], given.features[0].sum(dim=0) / 49)


def test_plus_samples_an_image_without_outliers_as_if_it_had_one() -> None:
    out = PruMergePlus().select(without_outliers(), 48)
    assert out.indices[0, :-1].tolist() == [0, 16, 32]
    assert out.valid.all()


def test_the_extra_token_takes_the_slot_of_the_most_attended_of_the_rest() -> None:
    given = random_signals(images=2)
    order = PruMerge(keep=9).select(given, 9).indices
    longer = PruMerge(keep=10).select(given, 10).indices
    assert torch.equal(order, longer[:, :9])


def test_merging_by_hand() -> None:
    """Three tokens, one neighbour each: what the definition says, term by term."""
    given = random_signals(images=1, grid=(1, 3))
    out = PruMerge(keep=2, neighbors=1).select(given, 2)
    q, k = given.queries[-1, 0, :, 0].flatten(), given.keys[-1, 0].transpose(0, 1).flatten(1)
    a, f = (k @ q / 8**0.5).softmax(0)[1:], given.features[0]
    keys = torch.nn.functional.normalize(k[1:], dim=1)
    best = int(a.argmax())
    others = [i for i in range(3) if i != best]
    nearest = max(others, key=lambda i: float(keys[i] @ keys[best]))
    torch.testing.assert_close(out.features[0, 0], f[best] + a[nearest] * f[nearest])
    torch.testing.assert_close(out.features[0, 1], sum(a[i] * f[i] for i in others))


def test_outliers_by_hand() -> None:
    attention = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 30], [1.0, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
    assert outliers(attention).sum(dim=1).tolist() == [1, 0]


@pytest.mark.parametrize("k", [2, 3, 9, 24, 47])
def test_plus_halves(k: int) -> None:
    """(k - 1) // 2 tokens stand where they are whatever the image is."""
    kept = PruMergePlus(keep=k).select(random_signals(images=8), k).indices[:, :-1]
    common = set.intersection(*(set(row.tolist()) for row in kept))
    sampled = {(2 * i + 1) * 48 // (2 * ((k - 1) // 2)) for i in range((k - 1) // 2)}
    assert len(sampled) == (k - 1) // 2
    assert sampled <= common


def test_reads_the_last_layer() -> None:
    assert PruMerge().layers(Tower(depth=24, feature_layer=22, grid=(24, 24), has_cls=True)) == (23,)


@pytest.mark.parametrize("method", [PruMerge(), PruMergePlus()])
def test_adaptive_never_keeps_all(method: PruMerge) -> None:
    assert not method.keeps_all(576)
