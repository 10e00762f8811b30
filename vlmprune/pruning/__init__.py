"""The engine: hooks a method into an unmodified transformers model and carries out its selection.

adapter.py     what the engine needs to know of a model (a protocol; models/ implements it)
session.py     the `with` block: installs and removes hooks, keeps the record
sequence.py    selection between the vision encoder and decoder layer 0
vision.py      merging inside the vision encoder
decoder.py     selection before decoder layers K > 0
probe.py       attention rows computed beside SDPA or flash, without output_attentions
compaction.py  really dropping tokens from a batch
"""
