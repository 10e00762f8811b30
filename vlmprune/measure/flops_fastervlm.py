"""FLOPs for `flops.convention=fastervlm`, counted as in the tables of FasterVLM's project page.

The page (github.com/Theia-4869/FasterVLM, branch gh-pages, commit 8494094, static/image/efficiency.png: LLaVA-NeXT-7B
on POPE, FastV too) prints eleven figures and no formula, and the code has none. This one was inferred from them and
gives all eleven to the printed digit. FLOP = 2 multiply-accumulates, causal attention not halved, and for layers of
width d and MLP width m

    vision       every encoder layer on the T positions of every tile, [CLS] among them: 2T(4dd + 2dm) + 4TTd
    projector    one product from the encoder's width to the decoder's, for the visual tokens of decoder layer 0
    prefill      every decoder layer on its n visual tokens alone: 2n(4dd + 3dm) + 4nnd

It leaves out the question and the template, decoding, the logits, the embedding of patches, the projector's other
layers and the selection, and it counts encoder layers that nothing reads; flops.py counts the operations that run.
Window attention in an encoder and fewer key heads in a decoder, neither of which LLaVA-NeXT-7B has, count at their real
sizes; a shorter encoder sequence, as merging methods give, is not taken into account.
"""

from __future__ import annotations

from collections import Counter

from vlmprune.measure.encoder import Encoded
from vlmprune.measure.flops import Flops, decoder_layer
from vlmprune.models.base import Adapter


def fastervlm_flops(adapter: Adapter, encoded: Encoded, visual: list[int]) -> Flops:
    """Return the FLOPs of a question about the media in `encoded`.

    visual: per decoder layer, the visual tokens that the layer processed (of all the question's media).
    """
    sizes, text, depth = adapter.encoder_sizes, adapter.config.text_config, adapter.tower.depth
    tile_flops = {
        tile: sum(sizes.layer_flops(sizes.tokens(tile), sizes.pairs(layer, tile)) for layer in range(depth))
        for tile in set(encoded.tiles)
    }
    return Flops(
        vision=sum(count * tile_flops[tile] for tile, count in Counter(encoded.tiles).items()),
        projector=2 * visual[0] * sizes.width * text.hidden_size,
        selection=0,
        prefill=sum(decoder_layer(n, n, text) for n in visual),
        decode=0,
    )
