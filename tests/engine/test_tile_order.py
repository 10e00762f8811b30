"""VisionZip's published order on LLaVA-NeXT: what the decoder is given, told from the projected tokens themselves."""

from __future__ import annotations

import pytest
import torch

from tests.families import llava_next
from tests.toy_models import inputs_of, record_of
from vlmprune import prune
from vlmprune.methods.visionzip import VisionZip
from vlmprune.models.base import adapt

KEEP = 9
TALL, SQUARE, FLAT = (45, 17), (32, 32), (30, 40)  # three tiles in a column, two by two, two by two with padding


@pytest.fixture(scope="module")
def model():
    return llava_next.make()


def prompt_of(adapter, sizes):
    """A prompt that shows images of these sizes one after the other."""
    generator = torch.Generator().manual_seed(2)
    geometry = [adapter.geometry(size) for size in sizes]
    pixels = torch.zeros(len(sizes), max(image.tiles for image in geometry), 3, llava_next.TILE, llava_next.TILE)
    for index, image in enumerate(geometry):
        pixels[index, : image.tiles] = torch.rand(pixels[index, : image.tiles].shape, generator=generator)
    ids = torch.cat(
        [torch.tensor([3]), torch.full((sum(map(adapter.slots, geometry)),), llava_next.IMAGE_TOKEN), torch.tensor([7])]
    )[None]
    return geometry, {"input_ids": ids, "pixel_values": pixels, "image_sizes": torch.tensor(sizes)}


def decoder_input(model, monkeypatch, inputs, **settings):
    """The visual tokens at layer 0, and each projected token by (tile, kind, patch of the tile's grid)."""
    chosen = []
    select = VisionZip.select

    def spy(method, signals, k):
        chosen.append((select(method, signals, k), signals, k))
        return chosen[-1][0]

    monkeypatch.setattr(VisionZip, "select", spy)
    with prune(model, "visionzip", keep=KEEP, **settings) as session:
        with inputs_of(model.model.language_model.layers[0]) as seen:
            model(**inputs)
        adapter, method = session.adapter, session.method
    arguments = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
    layout = adapter.layout("get_image_features", arguments, "tile")
    named = []
    for group, (selection, _signals, k) in zip(layout.groups, chosen, strict=True):
        dominant, _ = method.split(k)
        embedded = model.model.multi_modal_projector(selection.features)
        for unit, tile in enumerate(group.tiles):
            tokens = group.index[unit][selection.indices[unit]] - tile * llava_next.SIDE**2
            kinds = ["cls", *["patch"] * (dominant - 1), *["merged"] * (k - dominant)]
            named += zip([tile] * k, kinds, tokens.tolist(), embedded[unit], strict=True)
    return seen[0][0, 1:-1], named


def told(visual, named):
    """(tile, kind, patch) of each visual token."""
    embedded = torch.stack([embedding for *_, embedding in named])
    distance = (visual[:, None] - embedded).norm(dim=2)
    assert distance.min(dim=1).values.max() < 1e-4
    return [named[index][:3] for index in distance.argmin(dim=1).tolist()]


def published_order(geometry, named):
    """Of the images in turn: the base tile's tokens, patches over the canvas, [CLS] by tile, merged ones by tile."""
    expected, first = [], 0
    for image in geometry:
        own = [name[:3] for name in named if first <= name[0] < first + image.tiles]
        expected += [name for name in own if name[0] == first]
        later = sorted((name for name in own if name[0] > first), key=lambda name: name[0])

        def place(name, first=first, columns=image.columns):
            (row, column), (y, x) = divmod(name[0] - first - 1, columns), divmod(name[2], llava_next.SIDE)
            return row * llava_next.SIDE + y, column * llava_next.SIDE + x

        expected += sorted((name for name in later if name[1] == "patch"), key=place)
        expected += [name for name in later if name[1] == "cls"] + [name for name in later if name[1] == "merged"]
        first += image.tiles
    return expected


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ([SQUARE], {"packing": "fastervlm"}),  # an image of its resolution's size, as that preprocessor makes them
        ([TALL, SQUARE, FLAT], {}),
        ([FLAT], {"newline": "keep"}),
    ],
    ids=str,
)
def test_tiles_are_ordered_as_published(model, monkeypatch, sizes, options):
    geometry, inputs = prompt_of(adapt(model, options), sizes)
    visual, named = decoder_input(model, monkeypatch, inputs, model_options=options)
    if options.get("newline") == "keep":
        newline = model.model.image_newline
        visual = visual[(visual - newline).norm(dim=1) > 1e-4]
    assert told(visual, named) == published_order(geometry, named)


def test_kept_positions_leave_every_token_at_its_slot(model, monkeypatch):
    adapter = llava_next.LlavaNext(model)
    (image,), inputs = prompt_of(adapter, [FLAT])
    visual, named = decoder_input(model, monkeypatch, inputs, positions="keep")
    slots = image.slot_patches().tolist()
    found = [slots.index(tile * llava_next.SIDE**2 + patch) for tile, _kind, patch in told(visual, named)]
    assert found == sorted(found)
    assert len(found) == len(set(found)) == len(named)


def test_the_record_has_the_same_slots_either_way(model):
    _, inputs = prompt_of(llava_next.LlavaNext(model), [FLAT])
    kept = []
    for positions in ("renumber", "keep"):
        record = record_of(model, inputs, "visionzip", keep=KEEP, positions=positions)
        kept.append(record.kept)
    assert torch.equal(*kept)
