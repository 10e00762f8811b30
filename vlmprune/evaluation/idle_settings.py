"""Settings that cannot change anything in a run: refused there, and left out of a job where another's can act.

A default is never refused, nor a setting that only says how the work is done (batch_size, device, features, judge): a
command of several jobs has one of each. What the method or the model alone decides is refused in config/registry.py and
models/compatibility.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from vlmprune.benchmarks.base import Benchmark, Sample
from vlmprune.benchmarks.hub import HubBenchmark
from vlmprune.config.overrides import run_keys
from vlmprune.config.registry import read_choice
from vlmprune.config.settings import RunConfig, compose_run
from vlmprune.errors import IdleSetting, UserError
from vlmprune.evaluation.generation import read_rules
from vlmprune.files import expand_path
from vlmprune.methods.base import Method
from vlmprune.models.base import read_family
from vlmprune.models.compatibility import check_scope
from vlmprune.models.outline import build_weightless
from vlmprune.models.preprocessing import Preprocessor
from vlmprune.models.processor import Checkpoint
from vlmprune.terminal import say

T = TypeVar("T")


class IdleSettings:
    """Settings that jobs of a command of several run without, because they cannot act there."""

    def __init__(self) -> None:
        self._errors: dict[str, list[IdleSetting]] = {}  # by what was typed

    def remove_setting(self, config: RunConfig, error: IdleSetting) -> RunConfig:
        """Return the job without the setting that `error` is about. Raises `error` where it was not typed by itself."""
        idle = [override for override in config.overrides if setting_key(override) == error.setting]
        if not idle:
            raise error
        for override in idle:
            self._errors.setdefault(override, []).append(error)
        return compose_run([override for override in config.overrides if override not in idle], config.config_dir)

    def find_runnable(self, config: RunConfig, look: Callable[[RunConfig], T]) -> tuple[RunConfig, T]:
        """Return the job as it can run, and what `look` finds of it."""
        while True:
            try:
                return config, look(config)
            except IdleSetting as error:
                config = self.remove_setting(config, error)

    def print_removed(self, jobs: Iterable[RunConfig]) -> None:
        """Say which settings were left out of jobs. Raises the error of one that acts in none of `jobs`."""
        acting = {override for config in jobs for override in config.overrides}
        for override, errors in self._errors.items():
            if override not in acting:
                raise errors[0]
            for why in dict.fromkeys(error.why for error in errors):
                say(f"{override} is left out where it cannot act: {why}")


def setting_key(override: str) -> str:
    """Return 'method.k' of +method.k=3."""
    return override.lstrip("+~").partition("=")[0]


def typed_settings(config: RunConfig) -> dict[str, Any]:
    """Return what was typed of a run, one level deep, by name; without what is the default anyway."""
    found: dict[str, Any] = {}
    for key in map(setting_key, config.overrides):
        group, _, name = key.partition(".")
        if group not in config.names:
            value, default = config.resolved.get(key), run_keys().get(key)
        else:
            value, default = (
                config.resolved[group].get(name),
                read_choice(group, config.names[group], config.config_dir),
            )
            default = default.get(name)
        if value != default:
            found[key] = value
    return found


def check_idle(
    config: RunConfig, method: Method, checkpoint: Checkpoint, benchmark: Benchmark, samples: list[Sample]
) -> None:
    """Raise IdleSetting for what was typed and cannot act with this checkpoint on all `samples` of the benchmark."""
    inputs = build_weightless(checkpoint, config.model).preprocessor
    check_generation(config, checkpoint)
    check_questions(config, benchmark, samples, inputs)
    check_scope(method, read_family(checkpoint.config), inputs.kinds(samples))


def check_questions(config: RunConfig, benchmark: Benchmark, samples: list[Sample], inputs: Preprocessor) -> None:
    """Raise IdleSetting for what was typed and cannot act on the benchmark's questions, `samples`."""
    typed, media = typed_settings(config), inputs.kinds(samples)

    def idle(name: str, why: str) -> IdleSetting:
        return IdleSetting(name, typed[name], why)

    for name in inputs.limits:
        kind = "video" if name.startswith("video") else "image"
        follows = "video" in media and inputs.limits.get(f"video_{name}") == inputs.limits.get(name)
        if f"model.{name}" in typed and kind not in media and not follows:
            raise idle(f"model.{name}", f"the questions show no {kind}")
    if typed.get("model.image") == "pad" and "image" not in media:
        raise idle("model.image", "frames of a video are not padded, and the questions show no image")
    for name, why in inputs.adapter.idle_options.items():
        if f"model.{name}" in typed:
            raise idle(f"model.{name}", why)
    for name in ("benchmark.num_frames", "benchmark.frames"):
        if name in typed and all(sample.media == "image" for sample in samples):
            raise idle(name, "the questions show no video")
    if "orientation" in typed and not benchmark.turned:
        raise idle("orientation", "no picture of these data says how it is turned")
    if isinstance(benchmark, HubBenchmark) and benchmark.source().folder is not None:
        path = expand_path("benchmark.path", benchmark.path)
        for name in ("revision", *(("split",) if path.is_file() or (path / "state.json").exists() else ())):
            if f"benchmark.{name}" in typed:
                raise idle(f"benchmark.{name}", f"{benchmark.path} is read as it lies there")


def check_generation(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Raise IdleSetting for model.generation=greedy where the checkpoint has no rules to go without."""
    if typed_settings(config).get("model.generation") != "greedy":
        return
    try:
        followed = read_rules(checkpoint, "checkpoint")
    except UserError:  # a rule that cannot be followed: greedy goes without it
        return
    if followed.effective == read_rules(checkpoint, "greedy").effective:
        raise IdleSetting("model.generation", "greedy", "the checkpoint has no rule that changes greedy answers")
