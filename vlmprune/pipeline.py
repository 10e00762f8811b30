"""Construction of models, session and evaluation from a plan, the same in every process of a run."""

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
    """Load the model, and the CLIP text tower if the method reads questions with one."""
    loaded = loading.load(plan.checkpoint, plan.config.model, plan.dtype, plan.device)
    return loaded, None if plan.text_tower is None else load_text_tower(plan.text_tower, plan.device)


def evaluation_of(
    plan: Plan,
    loaded: Loaded,
    text_tower: TextTower | None,
    directory: RunDirectory,
    advance: Callable[[int], None],
) -> Evaluation:
    """Return the evaluation that answers the plan's questions into `directory`. advance: gets the number just done."""
    session = Session(loaded.adapter, plan.method, text_tower=text_tower, features=features_of(plan, loaded))
    return Evaluation(plan.benchmark, loaded, session, directory, advance, settings_of(plan.config))


def features_of(plan: Plan, loaded: Loaded) -> FeatureStore | None:
    """Return the model's store of encodings, shared by all runs of the process; None if it is off or not supported."""
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
    """Return the settings of the evaluation from those of the run."""
    skip_bad = config.on_bad_sample == "skip"
    return Settings(config.batch_size, config.share_prefix, config.compile, skip_bad, config.names["benchmark"])
