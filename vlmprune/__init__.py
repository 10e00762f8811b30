"""vlmprune: training-free visual-token pruning of vision-language models.

from vlmprune import prune
with prune(model, "cls", ratio=0.95):
    model.generate(**inputs)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmprune.engine.session import Session
    from vlmprune.methods.base import Method

__version__ = "0.3.0.dev0"
__all__ = ["prune"]


def prune(
    model: Any,
    method: str | Method,
    *,
    ratio: float | None = None,
    keep: int | None = None,
    model_options: dict[str, Any] | None = None,
    **options: Any,
) -> Session:
    """Return a context manager in which `model` prunes visual tokens; outside it the model is unchanged.

    model: a loaded transformers vision-language model. method: a name from `vlmprune list methods`, or a Method.
    ratio: fraction of visual tokens removed, 0..1; or keep: tokens kept. options: the method's own fields, and
    positions=renumber|keep, scope=tile|image, budget=average (see `Method`, `SequenceMethod`, `DecoderMethod`).
    model_options: those of the model's family, such as newline="keep" on LLaVA-NeXT.
    Inside, model(...) returns logits of the shortened prompt, get_image_features() fills dropped tokens with NaN, and a
    KV cache records the prompt's tokens, so that later turns can continue from it (see `Session`).
    Raises UserError for a name, value or pair that cannot work.
    """
    from vlmprune.config.registry import build_method
    from vlmprune.config.typecheck import check_amount, check_fields
    from vlmprune.engine.session import Session
    from vlmprune.errors import UserError
    from vlmprune.methods.base import Method as MethodClass
    from vlmprune.models.base import adapt, read_family
    from vlmprune.models.clip_text import find_method_clip, load_text_tower
    from vlmprune.models.compatibility import check_pair, check_settings

    adapter = adapt(model, model_options)
    name = method if isinstance(method, str) else type(method).__name__
    if isinstance(method, str):
        method = build_method(method, ratio=ratio, keep=keep, **options)
    elif not isinstance(method, MethodClass):
        raise UserError(f"method={method!r}: expected a name of `vlmprune list methods`, or a Method object")
    elif ratio is not None or keep is not None or options:
        raise TypeError("prune(model, Method(...)) takes its settings from the Method: drop ratio, keep and options")
    else:
        check_fields(method)
    check_amount(method.ratio, method.keep)
    family = read_family(model.config)
    check_pair(family, method, name, model.config.model_type)
    check_settings(method, family, adapter.decoder_depth, name)
    clip = find_method_clip(method, adapter.tower, model.config.vision_config)
    return Session(adapter, method, text_tower=None if clip is None else load_text_tower(clip, model.device))
