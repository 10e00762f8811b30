"""Weights & Biases as a mirror of the run directory.

W&B is imported when a run starts, works without an account (offline, in the run directory) and never decides a run's
fate: no network, a full disk or a bug of its own costs one line of warning. API keys are only ever looked for here,
never read into a config, a file or a message.
"""

from __future__ import annotations

import hashlib
import netrc
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from vlmprune.loggers.base import Logger
from vlmprune.loggers.mirror import flatten, spread, summary_of
from vlmprune.progress import say

SAMPLE_COLUMNS = ("id", "category", "question", "answer", "prediction", "score")
Mode = Literal["online", "offline", "disabled"]
INIT_SECONDS = 20.0
FINISH_SECONDS = 60.0


@dataclass
class WandbLogger(Logger):
    """logger=wandb. mode: auto is online where an API key is configured; samples: rows of the table of samples."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "vlmprune"
    entity: str | None = None
    samples: int = 64

    # A sweep whose first run found no network does not wait for it again in each of the others.
    unreachable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._run: Any = None
        self._line: str | None = None

    def start(self, config: dict[str, Any], fingerprint: str, group: str | None) -> None:
        with self._mirroring("start"):
            mode = _resolve_mode(self.mode)
            if mode == "disabled":
                return
            run_id = run_identity(fingerprint, outputs_identity(self.outputs))
            flat = flatten(config) | {"fingerprint": fingerprint}
            if mode == "online" and not has_api_key():
                say("warning: W&B has no API key (wandb login sets one); its files are written offline")
            elif mode == "online" and not WandbLogger.unreachable:
                try:
                    self._run = self._init("online", run_id, flat, group)
                except Exception as error:  # see _mirroring; here there is something left to try
                    WandbLogger.unreachable = True
                    say(f"warning: W&B cannot be reached ({_one_line(error)}); its files are written offline")
                    _forget_failed_run()
            if self._run is None:
                self._run = self._init("offline", run_id, flat, group)
                folder = Path(self._run.settings.sync_dir)
                self._line = f"offline run {run_id}: sync with `wandb sync {folder}`"
            else:
                self._line = str(self._run.url)

    def log_result(self, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        with self._mirroring("log the result"):
            if self._run is None:
                return
            import wandb

            rows = [[row[column] for column in SAMPLE_COLUMNS] for row in spread(samples, self.samples)]
            if rows:
                self._run.log({"samples": wandb.Table(columns=list(SAMPLE_COLUMNS), data=rows)})
            names = {f"{kind}.name": result[kind] for kind in ("model", "method", "benchmark")}
            self._run.config.update(names, allow_val_change=True)
            self._run.summary.update(summary_of(result, self.directory))

    def finish(self, exit_code: int) -> None:
        with self._mirroring("finish"):
            run, self._run = self._run, None  # even a failing finish is the last call
            if run is not None:
                run.finish(exit_code=exit_code)

    @property
    def line(self) -> str | None:
        return self._line

    def _init(self, mode: Mode, run_id: str, config: dict[str, Any], group: str | None) -> Any:
        """wandb.init with everything off that is not asked for: no console capture, no code, no system metrics."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # or it would announce the login
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            init_timeout=INIT_SECONDS,
            login_timeout=INIT_SECONDS,
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
            config=config,
            mode=mode,
            settings=settings,
            reinit="finish_previous",  # else a sweep's second job would be given the first one's run
        )

    @contextmanager
    def _mirroring(self, doing: str) -> Iterator[None]:
        """One step of the mirror; whatever goes wrong in it is told once and ends the mirror, not the run."""
        try:
            with _files_in(self.directory / "wandb"):
                yield
        # Everything: W&B fails in its own ways (network, disk, a dead service process, protobuf versions), and by
        # the time it does the run directory has what matters. KeyboardInterrupt still stops the run.
        except Exception as error:
            self._run = self._line = None
            say(
                f"warning: W&B could not {doing} ({_one_line(error)}); the run goes on without it, its files are in "
                f"{self.directory}"
            )


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """W&B's staging and cache in `folder`, not in the home folder: an offline run cannot be synced without them."""
    own = {"WANDB_DATA_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "cache")}
    set_here = [name for name in own if name not in os.environ]
    os.environ.update({name: own[name] for name in set_here})
    try:
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)


def _forget_failed_run() -> None:
    """End W&B's service process, which goes on holding the id of a run that it could not start."""
    import wandb

    wandb.teardown()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _resolve_mode(mode: Literal["auto"] | Mode) -> Mode:
    asked = mode if mode != "auto" else os.environ.get("WANDB_MODE", "")
    if asked == "disabled":
        return "disabled"
    if asked == "offline":
        return "offline"
    return "online" if asked == "online" or has_api_key() else "offline"


def has_api_key() -> bool:
    """Whether W&B would find an API key, in the environment or in netrc; without one it must not be asked online."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import wandb

    hosts = {urlsplit(wandb.Settings().base_url).netloc, "api.wandb.ai"}
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            entries = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        if hosts & entries.keys():
            return True
    return False


def run_identity(fingerprint: str, outputs_id: str) -> str:
    """The W&B run id: the same run in the same outputs folder is one W&B run, two people's are two."""
    return hashlib.sha256((fingerprint + outputs_id).encode()).hexdigest()[:16]


def outputs_identity(outputs: Path) -> str:
    """The random id of an outputs folder, in its file `.id`; made there if missing, by exactly one process."""
    file = outputs / ".id"
    if not file.exists():
        outputs.mkdir(parents=True, exist_ok=True)
        draft = outputs / f".id.{secrets.token_hex(4)}"
        draft.write_text(secrets.token_hex(16) + "\n")
        try:
            os.link(draft, file)  # fails if another process was first; never shows half a file
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text().strip()
