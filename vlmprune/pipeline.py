"""From a plan to what answers its questions: models, session, evaluation. The same in every process of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vlmprune.config import RunConfig
from vlmprune.environment import versions
from vlmprune.errors import UserError
from vlmprune.evaluate import Evaluation, Settings
from vlmprune.fingerprint import sha256
from vlmprune.models import loading
from vlmprune.models.clip_text import load_text_tower
from vlmprune.models.loading import Loaded
from vlmprune.plan import Plan
from vlmprune.pruning.adapter import TextTower
from vlmprune.pruning.features import FeatureStore
from vlmprune.pruning.session import Session
from vlmprune.records import RunDirectory


def load_models(plan: Plan) -> tuple[Loaded, TextTower | None]:
    """The model, and the CLIP that the method reads questions with, if it does."""
    loaded = loading.load(plan.checkpoint, plan.config.model, plan.dtype, plan.device)
    return loaded, None if plan.text_tower is None else load_text_tower(plan.text_tower, plan.device)


def evaluation_of(
    plan: Plan,
    loaded: Loaded,
    text_tower: TextTower | None,
    directory: RunDirectory,
    advance: Callable[[int], None],
) -> Evaluation:
    """What answers the plan's questions and adds them to `directory`. advance: told how many samples are done."""
    session = Session(loaded.adapter, plan.method, text_tower=text_tower, features=features_of(plan, loaded))
    return Evaluation(plan.benchmark, loaded, session, directory, advance, settings_of(plan.config))


def features_of(plan: Plan, loaded: Loaded) -> FeatureStore | None:
    """The store of encodings of this model, shared by all runs of the process that load it; None if none is wanted."""
    wanted = plan.config.features
    if not loaded.adapter.encodes_tiles_apart or (wanted.memory_mb == 0 and wanted.folder is None):
        return None
    folder = None
    if wanted.folder is not None:
        model = plan.config.model
        weights = [plan.checkpoint.identity, str(plan.dtype), model.quantization]
        same = [*weights, model.attention, loaded.device.type, versions()]
        folder = Path(wanted.folder) / sha256(same)[:16]
    memory = wanted.memory_mb * 2**20
    if loaded.features is None or (loaded.features.memory, loaded.features.folder) != (memory, folder):
        try:
            loaded.features = FeatureStore(memory, folder)
        except OSError as error:
            raise UserError(f"features.folder={wanted.folder}: cannot be used ({error})") from error
    return loaded.features


def settings_of(config: RunConfig) -> Settings:
    """How a config asks for the evaluation to be done."""
    skip_bad = config.on_bad_sample == "skip"
    return Settings(config.batch_size, config.share_prefix, config.compile, skip_bad, config.names["benchmark"])
