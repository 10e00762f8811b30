"""Weights & Biases as a mirror of the run directory.

W&B is imported when a run starts and writes offline, inside the run directory, which takes milliseconds and no account.
In mode online another process uploads these files as they are written (wandb_upload.py). So W&B neither fails a run nor
slows it down: no network, a full disk or a bug of W&B costs one line of warning.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from annotated_types import Interval

from vlmprune.errors import error_text
from vlmprune.loggers.base import Logger
from vlmprune.loggers.wandb_account import (
    PROJECT,
    has_api_key,
    outputs_identity,
    resolve_mode,
    run_identity,
    wandb_settings,
)
from vlmprune.loggers.wandb_upload import SERVICE, Upload, Uploads
from vlmprune.results.picture_index import FOLDER, read_index
from vlmprune.results.runs import build_run, find_unpruned_score
from vlmprune.results.timing import relative_time
from vlmprune.terminal import say

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmprune.results.schema import Result


LATENCIES = ("vision", "selection", "projector", "prefill", "decode_per_token", "end_to_end")


def config_tree(config: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """Return settings, environment and fingerprint as nested dicts, without descriptions and the logger's settings.

    `environment` is that of environment.json; its copy of the model's settings is left out.
    """
    environment = {key: value for key, value in config.get("environment", {}).items() if key != "model"}
    settings = {key: value for key, value in config.items() if key not in ("logger", "environment")}
    return _without_descriptions(settings) | {"environment": environment, "fingerprint": fingerprint}


def _without_descriptions(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_descriptions(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if key != "info"
    }


def escape_name(name: str) -> str:
    """Return a name as one part of a W&B key, in which '/' would begin another section of charts."""
    return name.replace("/", "%2F")


def summarise_result(result: dict[str, Any], directory: Path) -> dict[str, float]:
    """Return the numbers of result.json by which runs are compared: times in ms and in % of the unpruned model's in the
    same run, MB, FLOPs per question, tokens."""
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
    values |= {f"flops/{part}": n for part, n in (answers["flops"] or {}).items() if part != "convention"}
    values |= {f"metrics/{escape_name(name)}": value for name, value in answers["metrics"].items()}
    values |= {f"score/{escape_name(name)}": entry["score"] for name, entry in answers["by_category"].items()}
    for side, parts in (timings["latency"] or {}).items():
        if isinstance(parts, dict):  # the others are samples and batch_size
            values |= {f"latency/{side}/{part}_ms": parts[part]["median_ms"] for part in LATENCIES if parts.get(part)}
    # As in our own charts: absolute times are longer on a busy machine, for both models.
    run = build_run(directory, cast("Result", result))
    values |= {f"latency/relative/{part}_percent": relative_time(run, part) for part in ("prefill", "end_to_end")}
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
ARTIFACT_FILES = ("result.json", "config.yaml", "predictions.jsonl", "kept.jsonl")
RUNNING = "running"  # section of the charts of a run under way, over the questions answered so far
INIT_SECONDS = 20.0
FINISH_SECONDS = 60.0


@dataclass
class WandbLogger(Logger):
    """logger=wandb. mode: auto is online if an API key is configured; samples: rows of the table of samples.

    project, entity: None for those of W&B's own settings (WANDB_PROJECT, WANDB_ENTITY). tags: of the run, also for
    WANDB_TAGS if empty. artifacts: True logs the run's files as one artifact, if they are not larger than artifacts_mb.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    samples: Annotated[int, Interval(ge=0, le=1_000_000)] = 64
    artifacts: bool = True
    artifacts_mb: Annotated[int, Interval(ge=0, le=10**6)] = 64

    def __post_init__(self) -> None:
        if wrong := [tag for tag in self.tags if not 1 <= len(tag) <= 64]:
            raise ValueError(f"tags={wrong[0]}: W&B takes tags of 1 to 64 characters")
        self._run: Any = None
        self._is_online = False
        self._uploads = Uploads()
        self._upload: Upload | None = None
        self._is_announced = False
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
            self._config = config_tree(config, fingerprint)
            self._run = self._init(run_id, group)
            self._run.define_metric(f"{RUNNING}/*", step_metric=f"{RUNNING}/questions")
            self._run.define_metric(f"{RUNNING}/questions_per_s", f"{RUNNING}/questions", summary="max,last")
            # A sweep that found no network does not ask again in each of its jobs.
            folder = self._sync_folder
            if folder is not None and self._is_online and not self._uploads.server_unreachable:
                self._upload, self._is_announced = self._uploads.start(folder), False
                self._line = f"live run {run_id} in {self._run.project}: {shorten_path(self._upload.log)}"
                return
            self._line = f"offline run {run_id}: sync with `wandb sync {shorten_path(self._sync_folder)}`"

    def log_progress(self, values: dict[str, float]) -> None:
        with self._mirror_step("log the progress"):
            if self._run is not None:
                self._run.log({f"{RUNNING}/{name}": value for name, value in values.items()})
            if self._upload is not None and not self._is_announced and (address := self._upload.address):
                self._is_announced = True
                say(f"W&B    live at {address}")

    def log_result(self, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        with self._mirror_step("log the result"):
            if self._run is None:
                return
            # With model=path and benchmark=folder these are the names of the folders, which the settings do not have.
            named = {group: self._config[group] | {"name": result[group]} for group in ("model", "benchmark")}
            self._run.config.update(named, allow_val_change=True)
            # Logged, not only in the summary: the charts of an automatic workspace show what was logged.
            self._run.log(summarise_result(result, self.directory) | self._sample_table(samples))
            self._log_artifact()

    def _sample_table(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the table of samples, those with a picture of their kept tokens first, and these pictures."""
        import wandb

        pictures = pictures_of(self.directory)
        pictured = [row for row in samples if row["id"] in pictures][: self.samples]
        others = [row for row in samples if row["id"] not in pictures]
        chosen = pictured + sample_evenly(others, self.samples - len(pictured))
        if not chosen:
            return {}
        sheets = pad_to_one_size([pictures[row["id"]] for row in pictured])
        images = {
            row["id"]: wandb.Image(sheet, caption=row["question"]) for row, sheet in zip(pictured, sheets, strict=True)
        }
        table = wandb.Table(columns=[*SAMPLE_COLUMNS, "kept tokens"])
        for row in chosen:
            table.add_data(*(row[column] for column in SAMPLE_COLUMNS), images.get(row["id"]))
        return {"samples": table} | ({"pictures": list(images.values())} if images else {})

    def _log_artifact(self) -> None:
        """Log the run's files as one artifact, unless they are too large for it."""
        import wandb

        if not self.artifacts:
            return
        files = [file for name in ARTIFACT_FILES if (file := self.directory / name).exists()]
        size = sum(file.stat().st_size for file in files) / 1e6
        if size > self.artifacts_mb:
            say(f"note: {size:,.0f} MB of files are no W&B artifact; logger.artifacts_mb={size + 1:.0f} uploads them")
            return
        assert self._sync_folder is not None
        artifact = wandb.Artifact(f"run-{self._run.id}-files", type="run", metadata={"directory": self.directory.name})
        kept = self._sync_folder / "run"
        kept.mkdir(exist_ok=True)
        for file in files:
            # A second name of the same file, since scoring again before a sync replaces the first. Immutable: no copy.
            artifact.add_file(str(link_or_copy(file, kept / file.name)), policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        with self._mirror_step("finish"):
            run, folder = self._run, self._sync_folder
            self._run = None  # even a failing finish is the last call
            if run is None or folder is None:
                return
            run.finish(exit_code=exit_code)
            self._end_upload(whole=True)
            remove_service_log(self.directory / "wandb", folder)

    def _end_upload(self, whole: bool) -> None:
        """Tell the upload of the run, if there is one, that nothing more will be written. whole: also the run's end."""
        if self._upload is not None:
            self._upload.end(whole)
        self._upload = None

    @property
    def line(self) -> str | None:
        return self._line

    @property
    def _sync_folder(self) -> Path | None:
        """Return the folder of W&B's files of the run; None without a run."""
        return None if self._run is None else Path(self._run.settings.sync_dir)

    def _init(self, run_id: str, group: str | None) -> Any:
        """Return a W&B run with all extras off but its measures of the machine: no console capture, no code."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # else it announces the login
        held = wandb_settings()  # read anew, as this process's W&B reads its environment once
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_save_requirements=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        return wandb.init(
            project=self.project or held.project or PROJECT,
            entity=self.entity or held.entity,
            tags=self.tags or held.run_tags,
            dir=str(self.directory.resolve()),  # a relative one would be of the working folder of W&B's service
            id=run_id,
            resume="allow",
            name=self.directory.name,
            group=group,
            job_type=self._config["method"]["name"],
            config=self._config,
            mode="offline",
            settings=settings,
            reinit="finish_previous",  # else a sweep's second job gets the first one's run
        )

    @contextmanager
    def _mirror_step(self, doing: str) -> Iterator[None]:
        """Enclose one step of the mirror; an exception in it prints one warning and ends the mirror, not the run."""
        try:
            with _files_in(self._sync_folder or self.directory.resolve() / "wandb"):
                yield
        # Every Exception: W&B fails in many ways (disk, a dead service process, protobuf versions), and the run
        # directory has all that matters. KeyboardInterrupt still stops the run.
        except Exception as error:
            self._run = self._line = None
            self._end_upload(whole=False)
            why = f"{type(error).__name__}: {error_text(error)}"
            say(f"warning: W&B could not {doing} ({why}); the run continues, and its files are in {self.directory}")
            _end_service()


def shorten_path(folder: Path | None) -> Path | None:
    """Return a folder as a user types it, relative to the working folder if it is inside."""
    inside = folder is not None and folder.is_relative_to(Path.cwd())
    return folder.relative_to(Path.cwd()) if folder is not None and inside else folder


def remove_service_log(folder: Path, sync_folder: Path) -> None:
    """Remove the cache folder of W&B's service, which has no more than its log, and the link to that log."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    link = sync_folder / "logs/debug-core.log"
    if not link.exists():
        link.unlink(missing_ok=True)


def link_or_copy(file: Path, target: Path) -> Path:
    """Return `target` as a hard link to `file`, or as a copy on a disk that has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
    return target


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """Keep W&B's staging and cache in `folder`, not in the home folder: an offline run cannot be synced without them.

    Silence W&B before it has settings, else it announces that it loads them. Hide the service of a parent process that
    uses W&B itself, such as a notebook: that one ends with the parent, and its files would be written after our exit.
    """
    parents = os.environ.pop(SERVICE, None)
    own = {"WANDB_DATA_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_SILENT": "true"}
    set_here = [name for name in own if name not in os.environ]
    os.environ.update({name: own[name] for name in set_here})
    try:
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)
        if parents is not None:
            os.environ[SERVICE] = parents


def _end_service() -> None:
    """End W&B's service process, so that a sweep's next job gets one that works and the exit waits for none."""
    with suppress(Exception):  # _mirror_step has warned already, and a dead service may fail to end
        import wandb

        wandb.teardown()
