"""CDPruner on LLaVA-NeXT: relevance is told from the most relevant patch of the whole image, not of a tile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.families import llava_next
from tests.models.clip import make_clip
from vlmprune import prune
from vlmprune.methods.budget import kept_count
from vlmprune.methods.cdpruner import map_dpp
from vlmprune.methods.tensor_ops import unit
from vlmprune.models.families.llava_next import LlavaNext

QUESTIONS = ["is there a red star", "the blue square"]
RATIO = 0.6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP that has the same vision encoder as the tiny LLaVA-NeXT."""
    return str(make_clip(tmp_path_factory.mktemp("clip"), llava_next.make().config.vision_config))


def plain(units: list[Tensor], relevance: Tensor, projected: Tensor, largest: list[Tensor]) -> set[int]:
    """The definition, unit by unit. units: the tokens of each; largest: what each unit's cosines are taken from."""
    kept: set[int] = set()
    for tokens, best in zip(units, largest, strict=True):
        r = best - relevance[tokens] + 1e-6
        x = unit(projected[tokens])
        order = map_dpp((r.unsqueeze(1) * (x @ x.T) * r)[None], kept_count(len(tokens), RATIO))
        kept |= set(tokens[order[0]].tolist())
    return kept


@pytest.mark.parametrize("scope", ["tile", "image"])
@pytest.mark.parametrize("media", [1, 2])
def test_all_tiles_of_an_image_share_one_maximum(clip: str, scope: str, media: int) -> None:
    """Images of three and of five tiles, ragged ones among them, several in a prompt and in a batch."""
    model, inputs, seen = llava_next.make(), llava_next.batch([8, 12], media), {}
    hook = model.model.multi_modal_projector.register_forward_hook(
        lambda _m, args, out: seen.update(features=args[0], projected=out.flatten(0, 1))
    )
    with prune(model, "cdpruner", ratio=RATIO, clip=clip, scope=scope) as session:
        session.ask(QUESTIONS)
        model(**inputs)
        kept = session.record.kept
        images = [LlavaNext(model).geometry(tuple(size)) for size in inputs["image_sizes"].tolist()]
        owners = [QUESTIONS[number // media] for number, image in enumerate(images) for _ in range(image.tiles)]
        relevance = session.text_tower.relevance(seen["features"], owners).flatten()
        hook.remove()
        for row, question in enumerate(QUESTIONS):
            session.ask([question])
            model(**llava_next.one_of(inputs, row))
            alone = session.record.kept[0]
            assert torch.equal(alone, kept[row, : len(alone)])

    first, start, apart = 0, [0] * len(QUESTIONS), 0
    for number, image in enumerate(images):
        n = llava_next.SIDE**2
        tiles = [
            (first + tile) * n + patches for tile, (patches, _) in enumerate(image.unpadded_patches()) if len(patches)
        ]
        units = tiles if scope == "tile" else [torch.cat(tiles)]
        largest = relevance[torch.cat(tiles)].max()
        expected = plain(units, relevance, seen["projected"], [largest] * len(units))
        by_tile = plain(units, relevance, seen["projected"], [relevance[tokens].max() for tokens in units])
        prompt = number // media
        slots = slice(start[prompt], start[prompt] + image.slots)
        here = image.slot_patches()[kept[prompt, slots]]
        assert set((here + first * n).tolist()) == expected
        apart += len(expected - by_tile)
        first, start[prompt] = first + image.tiles, slots.stop
    assert (apart > 0) == (scope == "tile")  # a maximum of each tile's own keeps other tokens
