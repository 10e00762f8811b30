"""The engine: hooks a method into an unmodified transformers model and carries out its selection.

adapter.py     what the engine needs to know of a model (a protocol; models/ implements it)
session.py     the `with` block: installs and removes hooks, keeps the record
guards.py      who may use the model meanwhile, and what cannot work, refused by name
clock.py       what selecting takes in time;  precision.py  full precision for it
soundness.py   values that are not finite, of which nothing can be chosen

sequence.py    selection between the vision encoder and decoder layer 0
layout.py      which tokens an encoding has, and which are ranked together
signals.py     what a method reads of the encoder;  probe.py  attention rows beside SDPA or flash
picked.py      what a selection leaves;  shadow.py  instance attributes before a model's own methods
vision.py      merging inside the vision encoder

prefill.py     one batch of prompts, made shorter before layer 0
prompt.py      what the decoder sees of it until the last token, and what a cache then holds
running.py     the state of its positions
compaction.py  really dropping tokens from a batch
decoder.py     selection before decoder layers K > 0;  scout.py  methods that start the decoder again
deepstack.py   features of Qwen3-VL that go with their tokens
"""
