"""The engine: hooks a method into an unmodified transformers model and carries out its selection.

adapter.py          the engine's view of a model (a protocol; models/ implements it)
session.py          the `with` block: installs and removes hooks, keeps the record
generate_checks.py  checks of who may use the model meanwhile, and of calls that cannot work
stages.py           the places where a method acts on one model;  declarations.py  a method's own declarations, checked
contract.py         calls of a method, and checks of its answers;  timing.py  the time that selecting takes
observer.py         reports of what is selected, for pictures

encoder_hooks.py    hooks around every encoding
before_lm.py        selection between the vision encoder and decoder layer 0
layout.py           the tokens of an encoding, and which of them are ranked together
signals.py          what a method reads of the encoder;  encoding_cache.py  encodings kept for the next question
hooks.py            attention rows beside SDPA or flash, patches of a model's methods, full precision
in_encoder.py       merging inside the vision encoder;  compiled.py  encoder and decoder as CUDA graphs

prefill.py          one batch of prompts, made shorter before layer 0
prompt_state.py     the shortened prompt until the last token, its positions, and what a cache then holds
shared_prefix.py    the state that prompts about one image have in common
in_lm.py            selection before decoder layers K > 0, and methods that start the decoder again
deepstack.py        features of Qwen3-VL that go with their tokens
"""
