"""The engine: hooks a method into an unmodified transformers model and carries out its selection.

adapter.py     interface of a model family for the engine (a protocol; models/ implements it)
session.py     the `with` block: installs and removes hooks, keeps the record
guards.py      refusal of a second user of the model, and of calls that cannot work
clock.py       time that selection takes;  precision.py  full precision for selection
soundness.py   detection of signals that are not finite

sequence.py    selection between the vision encoder and decoder layer 0
layout.py      tokens of an encoding, and the groups of them that are ranked together
signals.py     signals that a method reads from the encoder;  probe.py  attention rows beside SDPA or flash
picked.py      tokens that a selection keeps;  shadow.py  instance attributes that replace a model's methods
vision.py      merging inside the vision encoder

prefill.py     one batch of prompts, shortened before layer 0
prompt.py      masks and positions of the shortened prompts in every later step, and the content of a cache
running.py     state of each position of the sequence
compaction.py  removal of tokens from a batch
decoder.py     selection before decoder layers K > 0;  scout.py  methods that restart the decoder
deepstack.py   Qwen3-VL's DeepStack features, dropped with their tokens
"""
