"""Weights & Biases as a mirror of the run directory.

W&B is imported when a run starts and writes offline, inside the run directory, which takes milliseconds and no account.
In mode online another process uploads these files (wandb_upload.py). So W&B neither fails a run nor slows it down: no
network, a full disk or a bug of W&B costs one line of warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from vlmprune.errors import error_text
from vlmprune.loggers.base import Logger
from vlmprune.loggers.wandb_account import has_api_key, outputs_identity, resolve_mode, run_identity
from vlmprune.loggers.wandb_upload import Uploads
from vlmprune.results.picture_index import FOLDER, read_index
from vlmprune.results.runs import find_unpruned_score
from vlmprune.terminal import say

if TYPE_CHECKING:
    from PIL.Image import Image


LATENCIES = ("vision", "selection", "projector", "prefill", "decode_per_token", "end_to_end")


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as `method.k`, one column each, without descriptions and the logger's settings."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in ("info", "logger"):
            continue
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def summarise_result(result: dict[str, Any], directory: Path) -> dict[str, float]:
    """Return the numbers of result.json by which runs are compared; milliseconds, MB, FLOPs per question, tokens."""
    answers, timings = result["answers"], result["timings"]
    tokens = answers["tokens"]
    low, high = answers["interval95"] or (None, None)
    unpruned = find_unpruned_score(result, directory)
    values: dict[str, float | None] = {
        "score": answers["score"],
        "score_low": low,
        "score_high": high,
        "relative_score": answers["score"] / unpruned if unpruned and answers["score"] is not None else None,
        "ratio": result["ratio"],
        "reduction": 1 - tokens["kept"]["mean"] / tokens["total"] if tokens["total"] else None,
        "questions": answers["samples"],
        "tokens/total": tokens["total"],
        "tokens/kept": tokens["kept"]["mean"],
        "tokens/layer_averaged": tokens["layer_averaged"],
        "tokens/sequence": tokens["sequence"],
        "memory/peak_mb": timings["peak_memory_mb"],
        "questions_per_s": timings["samples_per_s"],
    }
    values |= {f"flops/{part}": value for part, value in (answers["flops"] or {}).items()}
    values |= {f"metrics/{name}": value for name, value in answers["metrics"].items()}
    values |= {f"score/{name}": entry["score"] for name, entry in answers["by_category"].items()}
    for side, parts in (timings["latency"] or {}).items():
        if isinstance(parts, dict):  # the others are samples and batch_size
            values |= {f"latency/{side}/{part}_ms": parts[part]["median_ms"] for part in LATENCIES if parts.get(part)}
    values |= {f"kv_cache/{side}_bytes": value for side, value in (timings["kv_cache_bytes"] or {}).items()}
    return {name: value for name, value in values.items() if value is not None}


def pictures_of(directory: Path) -> dict[str, Path]:
    """Return question id -> picture of its kept tokens, as the run saved them; {} if it saved none."""
    return {each["id"]: directory / FOLDER / each["file"] for each in read_index(directory)}


def pad_to_one_size(files: list[Path]) -> list[Image]:
    """Return the pictures, filled with white to one size: W&B steps through a row of one size only."""
    from PIL import Image

    pictures = [Image.open(file).convert("RGB") for file in files]
    size = (max(each.width for each in pictures), max(each.height for each in pictures)) if pictures else (0, 0)
    sheets = [Image.new("RGB", size, "white") for _ in pictures]
    for sheet, picture in zip(sheets, pictures, strict=True):
        sheet.paste(picture)
    return sheets


def sample_evenly(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return at most `count` rows at even distances, so that each part of the benchmark is seen; always the same."""
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


SAMPLE_COLUMNS = ("id", "category", "question", "answer", "prediction", "score")
INIT_SECONDS = 20.0
FINISH_SECONDS = 60.0


@dataclass
class WandbLogger(Logger):
    """logger=wandb. mode: auto is online if an API key is configured; samples: rows of the table of samples."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "vlmprune"
    entity: str | None = None
    samples: Annotated[int, Interval(ge=0, le=1_000_000)] = 64

    def __post_init__(self) -> None:
        self._run: Any = None
        self._is_online = False
        self._uploads = Uploads()
        self._line: str | None = None

    def set_uploads(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def start(self, config: dict[str, Any], fingerprint: str, group: str | None) -> None:
        with self._mirror_step("start"):
            mode, held_by = resolve_mode(self.mode)
            if held_by:
                say(f"W&B is {'off' if mode == 'disabled' else 'offline'}: {held_by}")
            if mode == "disabled":
                return
            self._is_online = mode == "online" and has_api_key()
            if mode == "online" and not self._is_online:
                say("warning: W&B has no API key (wandb login sets one); its files are written offline")
            run_id = run_identity(fingerprint, outputs_identity(self.outputs))
            self._run = self._init(run_id, flatten(config) | {"fingerprint": fingerprint}, group)
            self._line = f"offline run {run_id}: sync with `wandb sync {self._folder}`"

    def log_result(self, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        with self._mirror_step("log the result"):
            if self._run is None:
                return
            self._log_samples(samples)
            # With model=path this is the name of the checkpoint's folder, which the settings do not have.
            self._run.config.update({"model.name": result["model"]}, allow_val_change=True)
            self._run.summary.update(summarise_result(result, self.directory))

    def _log_samples(self, samples: list[dict[str, Any]]) -> None:
        """Log the table of samples: those with a picture of their kept tokens first, then some from the whole set."""
        import wandb

        pictures = pictures_of(self.directory)
        pictured = [row for row in samples if row["id"] in pictures][: self.samples]
        others = [row for row in samples if row["id"] not in pictures]
        chosen = pictured + sample_evenly(others, self.samples - len(pictured))
        if not chosen:
            return
        sheets = pad_to_one_size([pictures[row["id"]] for row in pictured])
        images = {
            row["id"]: wandb.Image(sheet, caption=row["question"]) for row, sheet in zip(pictured, sheets, strict=True)
        }
        table = wandb.Table(columns=[*SAMPLE_COLUMNS, "kept tokens"])
        for row in chosen:
            table.add_data(*(row[column] for column in SAMPLE_COLUMNS), images.get(row["id"]))
        self._run.log({"samples": table} | ({"pictures": list(images.values())} if images else {}))

    def finish(self, exit_code: int) -> None:
        with self._mirror_step("finish"):
            run, self._run = self._run, None  # even a failing finish is the last call
            if run is None:
                return
            folder = Path(run.settings.sync_dir)
            run.finish(exit_code=exit_code)
            if not self._is_online:
                return
            # A sweep that found no network does not ask again in each of its jobs.
            if self._uploads.server_unreachable:
                return
            started = self._uploads.start(folder)
            self._line = f"uploading run {run.id} to {self.project} in the background: {started.log}"

    @property
    def line(self) -> str | None:
        return self._line

    @property
    def _folder(self) -> Path:
        """Return the folder of W&B's run as a user types it, relative to the working folder if it is inside."""
        folder = Path(self._run.settings.sync_dir)
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder

    def _init(self, run_id: str, config: dict[str, Any], group: str | None) -> Any:
        """Return a W&B run with all extras off: no console capture, no code, no system metrics."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # else it announces the login
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        return wandb.init(
            project=self.project,
            entity=self.entity,
            dir=str(self.directory),
            id=run_id,
            resume="allow",
            name=self.directory.name,
            group=group,
            job_type=config["method.name"],
            config=config,
            mode="offline",
            settings=settings,
            reinit="finish_previous",  # else a sweep's second job gets the first one's run
        )

    @contextmanager
    def _mirror_step(self, doing: str) -> Iterator[None]:
        """Enclose one step of the mirror; an exception in it prints one warning and ends the mirror, not the run."""
        try:
            with _files_in(self.directory / "wandb"):
                yield
        # Every Exception: W&B fails in many ways (disk, a dead service process, protobuf versions), and the run
        # directory has all that matters. KeyboardInterrupt still stops the run.
        except Exception as error:
            self._run = self._line = None
            why = f"{type(error).__name__}: {error_text(error)}"
            say(f"warning: W&B could not {doing} ({why}); the run continues, and its files are in {self.directory}")
            _end_service()


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """Keep W&B's staging and cache in `folder`, not in the home folder: an offline run cannot be synced without them.

    Silence W&B before it has settings, else it announces that it loads them.
    """
    own = {"WANDB_DATA_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_SILENT": "true"}
    set_here = [name for name in own if name not in os.environ]
    os.environ.update({name: own[name] for name in set_here})
    try:
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)


def _end_service() -> None:
    """End W&B's service process, so that a sweep's next job gets one that works and the exit waits for none."""
    with suppress(Exception):  # _mirror_step has warned already, and a dead service may fail to end
        import wandb

        wandb.teardown()
