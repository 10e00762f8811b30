"""Making of the embedded model and of its test split, in order, from the root of a checkout after `make install`:

    python -m scripts.tiny_model.build_test_split vlmprune/tiny
    python -m scripts.tiny_model.train --out vlmprune/tiny/checkpoint    (--smoke: a few steps, half a minute)
    python -m scripts.tiny_model.card_scores                             the figures of vlmprune/tiny/MODEL_CARD.md

The package installs only the results: the test split, the weights and their loader (vlmprune/tiny).
"""
