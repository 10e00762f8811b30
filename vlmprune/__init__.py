"""vlmprune: training-free visual-token pruning of vision-language models.

from vlmprune import prune
with prune(model, "cls", ratio=0.95):
    model.generate(**inputs)

`evaluate` runs a benchmark on a loaded model, as `vlmprune run` does; `results` returns finished runs as rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmprune.version import __version__

if TYPE_CHECKING:
    from vlmprune.engine.session import Session
    from vlmprune.methods.base import Method
    from vlmprune.results import ResultsPackage

    results: ResultsPackage  # else type checkers take the package for a plain module, which cannot be called
else:
    from vlmprune import results

__all__ = ["__version__", "evaluate", "prune", "results"]


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

    model: a loaded transformers vision-language model. method: a name from `vlmprune list methods`, or a Method, which
    stays as it is: `prune(model, MyMethod(), ratio=0.9)` prunes by a copy with that ratio.
    ratio: fraction of visual tokens removed, 0..1; or keep: tokens kept. options: the method's own fields, and
    positions=renumber|keep, scope=tile|image, budget=average (see `Method`, `SequenceMethod`, `DecoderMethod`).
    model_options: those of the model's family, such as newline="keep" on LLaVA-NeXT.
    Inside, model(...) returns logits of the shortened prompt, get_image_features() fills dropped tokens with NaN, and a
    KV cache records the prompt's tokens, so that later turns can continue from it (see `Session`).
    Raises UserError for a name, value or pair that cannot work.
    """
    from vlmprune.config.registry import build_method, with_settings
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
    else:
        check_fields(method)
        method = with_settings(method, {"ratio": ratio, "keep": keep} | options)
    check_amount(method.ratio, method.keep)
    family = read_family(model.config)
    check_pair(family, method, name, model.config.model_type)
    check_settings(method, family, adapter.decoder_depth, name)
    clip = find_method_clip(method, adapter.tower, model.config.vision_config)
    return Session(adapter, method, text_tower=None if clip is None else load_text_tower(clip, model.device))


def evaluate(
    model: Any,
    processor: Any,
    method: str | Mapping[str, Any],
    benchmark: str | Mapping[str, Any],
    *,
    ratio: float | None = None,
    keep: int | None = None,
    model_options: Mapping[str, Any] | None = None,
    config_dir: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a method on a benchmark as `vlmprune run` does, with a loaded model; return the content of result.json.

    model, processor: from `from_pretrained` of one checkpoint; the weights may have changed since, nothing else.
    method, benchmark: a name of `vlmprune list`, or {"name": name, setting: value}. ratio, keep: as in `prune`.
    model_options: the run's settings of model.* for prompt, image, generation and the model's family. config_dir: a
    folder of your own choices. settings: all others of `vlmprune run`, such as limit=200, logger="none",
    features={"memory_mb": 0}.

    It is the same run: checks, fingerprint, directory under outputs=, resuming, W&B, and the printed summary. A run of
    unchanged weights is that of `vlmprune run` with this model, dtype, attention and device; changed weights are part
    of the fingerprint, and such runs are compared among themselves. `vlmprune.results.schema` has the result's fields.
    Raises UserError, before a question is asked, for whatever cannot work.

    >>> from transformers import AutoProcessor, LlavaForConditionalGeneration
    >>> from vlmprune.tiny import CHECKPOINT
    >>> model = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, dtype="float32")
    >>> processor = AutoProcessor.from_pretrained(CHECKPOINT)
    >>> result = evaluate(model, processor, "cls", "scenes", ratio=0.9, limit=50, logger="none")
    <BLANKLINE>
    cls at 90.0 % reduction · tiny on scenes...
    >>> result["answers"]["samples"], result["answers"]["tokens"]["kept"]["mean"]
    (50, 14.0)
    >>> [row["label"] for row in results("outputs")]
    ['cls']
    """
    from vlmprune.config.settings import compose_run
    from vlmprune.errors import UserError
    from vlmprune.evaluation.loaded import changed_weights, choice_lines, give_model, model_lines, setting_lines
    from vlmprune.evaluation.plan import Resources, make_plan
    from vlmprune.run import run

    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
    for name in ("device", "devices"):
        if name in settings:
            raise UserError(f"{name}={settings[name]}: the loaded model is where it is; leave it out")
    lines = [*model_lines(model, model_options or {}, config_dir), *choice_lines("method", method)]
    lines += choice_lines("benchmark", benchmark)
    given = {name: value for name, value in {"ratio": ratio, "keep": keep}.items() if value is not None} | settings
    lines += [line for name, value in given.items() for line in setting_lines(name, value)]
    config, resources = compose_run(lines, config_dir), Resources()
    plan = make_plan(config, resources, changed_weights(model, config.model))
    give_model(plan, model, processor, resources)
    return run(plan, resources)
