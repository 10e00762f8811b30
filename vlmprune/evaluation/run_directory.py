"""The run directory: its files, their atomic writes, and the lock that keeps other processes out.

config.yaml         the resolved config                        written first
environment.json    versions, device, git, checkpoint, data    written first
predictions.jsonl   one line per sample, appended and flushed; the first sample's also has the run's `prompt_template`
kept.jsonl          kept tokens as bitmasks, once per image unless they or the images' order depend on the question
bad.jsonl           samples that were left out because they cannot be used: id and reason; only if there are any
result.json         `Result` of results/schema.py, written last and atomically: its presence means "finished"
processes/<rank>/   the answers of another process of the run (vlmprune/distributed), until they are merged
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vlmprune.errors import UserError, error_text
from vlmprune.files import PARTIAL, append_lines, read_bytes, to_json, user_error_on_write, write_atomically
from vlmprune.results.line_schema import Environments, KeptLine, LeftOut, PredictionLine
from vlmprune.results.runs import SHARES, count_lines
from vlmprune.results.schema import Result
from vlmprune.terminal import say
from vlmprune.typed_json import STRICT, parse_json, read_json, read_lines

LOCK, HOLDER = ".lock", ".lock.held"
END_SECONDS = 60.0  # for a process whose run was killed to finish its batch, after which it ends
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@with_config(STRICT)
class Holder(TypedDict):
    """The process that holds a folder. started: in clock ticks since boot, as a later process may get the same pid."""

    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    started: int


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` exclusively inside. Raise UserError if another process holds it, OSError if it is not writable.

    Where flock does not work, a file that only one process can create names the holder. If that process was killed,
    the next one on the same machine takes the file over.
    """
    # Without O_NONBLOCK, opening a pipe of that name would block.
    opener = lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o666)  # noqa: E731
    with open(folder / LOCK, "w", encoding="utf-8", opener=opener) as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file: remove it", str(folder / LOCK))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(folder) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            reason = error.strerror
        else:
            yield
            return
        _create(folder / HOLDER)
        try:
            say(f"warning: {folder} has no file locks ({reason}): {HOLDER} in it says that it is in use")
            yield
        finally:
            (folder / HOLDER).unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Return True while another process holds `folder`; once that process died for any reason, False."""
    try:
        with hold_folder(folder):
            return False
    except UserError:
        return True


def _in_use(folder: Path) -> UserError:
    return UserError(f"{folder} is in use by another vlmprune process: wait for it to end")


def _create(file: Path) -> None:
    """Create the file by which this process holds its folder. Raise UserError if another process holds it."""
    own = {"host": socket.gethostname(), "pid": os.getpid(), "started": _start_ticks(os.getpid())}
    while True:
        try:
            with open(file, "x", encoding="utf-8") as handle:
                json.dump(own, handle)
            return
        except FileExistsError:
            _remove_stale(file, socket.gethostname())


def _remove_stale(file: Path, host: str) -> None:
    """Remove the file of an ended process of this machine. Raise UserError for the file of any other process."""
    claim = file.with_name(f"{file.name}.claim")  # else a second process could remove the file that the first created
    try:
        claim.touch(exist_ok=False)
    except FileExistsError as error:
        raise UserError(f"{file} is being taken over by another process; if none runs, remove {claim}") from error
    try:
        holder = parse_json(read_bytes(file, largest=10_000), Holder)
        if holder["host"] != host:
            raise UserError(
                f"{file.parent} is in use by process {holder['pid']} on {holder['host']}: wait for it to end; if it is "
                f"gone, remove {file}"
            )
        if _start_ticks(holder["pid"]) == holder["started"]:
            raise _in_use(file.parent)
        file.unlink()
    except FileNotFoundError:
        pass  # its process has just ended
    except ValueError as error:
        raise UserError(
            f"{file} does not say who has {file.parent} ({error}): if no vlmprune runs there, remove it"
        ) from error
    finally:
        claim.unlink(missing_ok=True)


def _start_ticks(pid: int) -> int:
    """Return the start of a process in clock ticks; 0 if there is none. Without /proc, 1 for one that runs."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return 0
    except PermissionError:
        pass  # a process of another user
    return 1


class RunDirectory:
    """One run's folder, named by its method, amount and fingerprint."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        # Set once the model is loaded; the template is written on the line of `first_sample` only.
        self.prompt_template, self.first_sample = "", ""

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a finished run, or None. Raises UserError if it is damaged or of another run."""
        file = self.path / "result.json"
        if not os.path.lexists(file):
            return None
        result = read_result(file)
        self._check_fingerprint(result["fingerprint"], file)
        return result

    @property
    def result_or_none(self) -> dict[str, Any] | None:
        """`result` of another run that this one refers to; None also if it is damaged."""
        try:
            return self.result
        except UserError:
            return None

    def write_start(self, config_yaml: str, environment: dict[str, Any]) -> None:
        """Write config.yaml and environment.json. A resumed run keeps every environment that it ran in."""
        file = self.path / "environment.json"
        environments = self._environments(file) if os.path.lexists(file) else []
        if environment not in environments:
            environments.append(environment)
        self.write("config.yaml", config_yaml)
        self.write(file.name, to_json({"fingerprint": self.fingerprint, "environments": environments}))
        self.merge_shares()
        self._drop_answers_without_kept()

    def _environments(self, file: Path) -> list[dict[str, Any]]:
        """Return the environments of earlier parts of the run."""
        try:
            recorded = read_json(file, Environments)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file} cannot be read ({error_text(error)}): delete it to resume; what the answers so far were made "
                "with is then unknown"
            ) from error
        self._check_fingerprint(recorded["fingerprint"], file)
        return recorded["environments"]

    def _drop_answers_without_kept(self) -> None:
        """Remove answers whose kept tokens are lost, such as with the end of a damaged kept.jsonl; they run again."""
        if not (self.path / "kept.jsonl").exists():  # the method records none
            return
        kept = {kept_key(row) for row in self.kept()}
        rows = self.predictions()
        whole = [row for row in rows if kept & {("id", row["id"]), ("image_id", row["image_id"])}]
        if len(whole) < len(rows):
            say(f"{len(rows) - len(whole)} answers have no kept tokens in {self.path}/kept.jsonl: they are asked again")
            self.replace_predictions(whole)

    def share(self, rank: int) -> RunDirectory:
        """Return the folder into which process `rank` of several writes its answers."""
        return RunDirectory(self.path / SHARES / str(rank), self.fingerprint)

    def merge_shares(self) -> None:
        """Append the answers of other processes to this folder's files, and remove their folders.

        A kill at any moment loses nothing and doubles nothing: what is there already is not appended again. Raise
        UserError if a process of a killed attempt does not end.
        """
        folders = sorted((self.path / SHARES).glob("*"))
        if not folders:
            return
        done = {row["id"] for row in [*self.predictions(), *self.bad()]}
        kept = {kept_key(row) for row in self.kept()}
        for folder in folders:
            share, end = RunDirectory(folder, self.fingerprint), time.monotonic() + END_SECONDS
            if is_held(folder):
                say(f"a process of the run that was killed finishes its batch: waiting for {folder}")
            while is_held(folder) and time.monotonic() < end:
                time.sleep(0.1)
            with share.lock():
                masks = [row for row in share.kept() if kept_key(row) not in kept]
                self.append([row for row in share.predictions() if row["id"] not in done], masks)
                self.append_bad([row for row in share.bad() if row["id"] not in done])
                kept.update(map(kept_key, masks))  # two processes may have had the same image
            shutil.rmtree(folder)
        (self.path / SHARES).rmdir()

    def discard(self) -> None:
        """Remove the folder of a run that was refused before its first answer, as it has nothing to resume from."""
        if not count_lines(self.path, "predictions.jsonl", "bad.jsonl"):
            shutil.rmtree(self.path, ignore_errors=True)

    def _check_fingerprint(self, recorded: str | None, file: Path) -> None:
        if recorded != self.fingerprint:
            raise UserError(
                f"{file} belongs to another run ({str(recorded)[:12]}, this one is {self.fingerprint[:12]}): "
                "move it away or use another outputs="
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder and hold it exclusively. Raise UserError while another process runs in it."""
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(hold_folder(self.path))
            except OSError as error:
                raise UserError(f"outputs folder {self.path} cannot be used: {error}") from error
            for partial in [*self.path.glob(PARTIAL), *self.path.glob(f"pictures/{PARTIAL}")]:
                partial.unlink(missing_ok=True)
            yield

    def predictions(self) -> list[dict[str, Any]]:
        """Return the lines of the answered samples. A last line cut short by a crash is removed from the file."""
        return read_answers(self.path / "predictions.jsonl", PredictionLine)

    def kept(self) -> list[dict[str, Any]]:
        """Return the lines of kept tokens recorded so far."""
        return read_lines(self.path / "kept.jsonl", KeptLine, "record of kept tokens")

    def append(self, predictions: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
        """Append answered samples and sync them to the disk; kept tokens first, so that no answer lacks them."""
        append_lines(self.path / "kept.jsonl", kept)
        template = {"prompt_template": self.prompt_template}
        lines = [row | template if row["id"] == self.first_sample else row for row in predictions]
        append_lines(self.path / "predictions.jsonl", lines)

    def bad(self) -> list[dict[str, Any]]:
        """Return the samples that were left out: id and reason."""
        file = self.path / "bad.jsonl"
        return _check_unique(file, read_lines(file, LeftOut, "sample that was left out"), "lines about")

    def append_bad(self, rows: list[dict[str, Any]]) -> None:
        """Append samples that are left out."""
        append_lines(self.path / "bad.jsonl", rows)

    def replace_predictions(self, rows: list[dict[str, Any]]) -> None:
        """Replace predictions.jsonl in one step."""
        self.write("predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json in one step, which marks the run as finished."""
        self.write("result.json", to_json(result))

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder in one step. Raise UserError if the disk is full or not writable."""
        with user_error_on_write(self.path / name):
            write_atomically(self.path / name, content)


def kept_key(row: dict[str, Any]) -> tuple[str, str | None]:
    """Return the subject of a line of kept.jsonl: ("id", a question) or ("image_id", an image)."""
    return ("id", row["id"]) if row.get("id") else ("image_id", row.get("image_id"))


def read_result(file: Path) -> dict[str, Any]:
    """Return the content of result.json. Raise UserError if it is damaged or of another schema."""
    try:
        return dict(read_json(file, Result))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({error_text(error)}): delete it, and the same command makes it again from the "
            "answers beside it"
        ) from error


def read_answers(file: Path, schema: Any) -> list[Any]:
    """Return the lines of predictions.jsonl. Raise UserError if one is damaged, or two answer the same sample."""
    return _check_unique(file, read_lines(file, schema, "answer to a sample"), "answers to")


def _check_unique(file: Path, rows: list[Any], what: str) -> list[Any]:
    """Return `rows`, lines about samples. Raise UserError if two are about the same sample."""
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        first = lines.setdefault(row["id"], number)
        if first != number:
            raise UserError(f"{file} has two {what} sample {row['id']}, lines {first} and {number}: remove one")
    return rows
