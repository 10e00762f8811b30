"""The model `vlmprune` of lmms-eval: any of its Hugging Face models, asked inside a pruning session.

lmms-eval finds it by the entry point `lmms_eval.models` of this package (docs/library.md). Nothing here imports Hydra
or parses an expression of OmegaConf, whose antlr is another than that of lmms-eval's requirements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models import registry_v2
from lmms_eval.utils import simple_parse_args_string

from vlmprune import prune
from vlmprune.config.registry import build_method
from vlmprune.errors import UserError
from vlmprune.terminal import say

AMOUNTS = ("ratio", "keep", "positions", "scope", "budget")
REQUESTS = ("generate_until", "generate_until_multi_round", "loglikelihood")  # what lmms-eval asks of a model


def manifest() -> Any:
    """Return the entry of lmms-eval's registry."""
    simple, chat = (f"{__name__}.{cls.__name__}" for cls in (PrunedSimpleModel, PrunedChatModel))
    return registry_v2.ModelManifest("vlmprune", simple_class_path=simple, chat_class_path=chat)


class PrunedChatModel(lmms):
    """Maker of a pruned model of lmms-eval.

    Of --model_args, model=NAME is lmms-eval's own model, which gets all arguments but method=NAME, ratio, keep,
    positions, scope, budget, and method.FIELD=VALUE, which are those of `vlmprune.prune`.
    """

    is_simple = False

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """Return lmms-eval's model, which asks every request in a session. Raises UserError for what cannot work."""
        from lmms_eval.models import get_model  # complete only after the registry has read its entry points

        own = simple_parse_args_string(arg_string)
        name, method = own.pop("model", None), own.pop("method", None)
        if name is None or method is None or name == "vlmprune":
            raise UserError(
                "--model_args: expected model=NAME, a Hugging Face model of lmms-eval such as llava_hf or qwen2_5_vl, "
                "and method=NAME of `vlmprune list methods`"
            )
        settings = {key: own.pop(key) for key in AMOUNTS if key in own}
        settings |= {key.removeprefix("method."): own.pop(key) for key in list(own) if key.startswith("method.")}
        build_method(method, **settings)  # a wrong name or value is refused before the weights load
        model = get_model(name, force_simple=cls.is_simple).create_from_arg_string("", (additional_config or {}) | own)
        session = prune(model.model, method, **settings)
        for request in REQUESTS:
            setattr(model, request, ask_inside(session, getattr(model, request)))
        say(f"vlmprune: {' '.join([name, method, *(f'{key}={value}' for key, value in settings.items())])}")
        return model


class PrunedSimpleModel(PrunedChatModel):
    """The same for the models and tasks of lmms-eval's older interface (--force_simple)."""

    is_simple = True


def ask_inside(session: Any, ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return `ask`, which answers requests, so that it runs inside the session and no failure passes for an answer."""

    def ask_pruned(requests: list[Any]) -> Any:
        with session, raise_faults(session.adapter.model):
            return ask(requests)

    return ask_pruned


@contextmanager
def raise_faults(model: Any) -> Iterator[None]:
    """Raise the first error of generate() at the end of the block: lmms-eval's models log it, and go on with ''."""
    generate, faults = model.generate, list[Exception]()

    def generate_or_note(*args: Any, **kwargs: Any) -> Any:
        try:
            return generate(*args, **kwargs)
        except Exception as error:  # raised on; the caller may catch it
            faults.append(error)
            raise

    model.generate = generate_or_note
    try:
        yield
    finally:
        model.generate = generate
    if faults:
        raise faults[0]
