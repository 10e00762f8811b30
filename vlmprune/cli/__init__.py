"""The command line: run, sweep, compare, score, time, speed, show, list, wandb-report and completion.

Heavy modules are imported by the command that needs them.

Exit codes: 0 done; 2 bad input, a full disk or too little memory, with one line; 130, 143 and 129 stopped by Ctrl-C,
SIGTERM and SIGHUP; 1 anything else, with its traceback. After each of them the same command resumes.
VLMPRUNE_TRACEBACK=1 adds the traceback to the one line.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vlmprune import own_code
from vlmprune.config.arguments import describe
from vlmprune.config.overrides import check_length
from vlmprune.config.secret_check import check_secrets
from vlmprune.errors import ProcessLost, Terminated, UserError, check_choice, find_stop, stop_code
from vlmprune.machine import check_memory, limit_spinning, resource_message
from vlmprune.terminal import fit_help, help_width, open_streams, say, write_error

HELP = """\
vlmprune: training-free visual-token pruning of vision-language models

{commands}

`vlmprune COMMAND --help` explains a command, with examples. Settings are key=value, as in Hydra, for every command;
`vlmprune list settings` has all of a run. Put quotes around a value with commas, brackets or $ in it:
"outputs='/data/a, b (1)'". Give each setting once.

  method=cls            the pruning method; method.NAME=VALUE for the settings of that method
  ratio=0.95            the fraction of visual tokens removed, or keep=64 tokens kept
  model=tiny            the embedded model; model=path model.path=/folder for your checkpoint
  benchmark=scenes      the embedded benchmark; benchmark=folder benchmark.path=/folder for your images
  limit=100             a seeded subset of the questions, also limit=10% and shard=1/4
  outputs=outputs       the folder of run directories

  --config-dir DIR      your own configs/: DIR/method/mine.yaml adds method=mine
  --help or -h, --version

Exit codes: 0 done, 1 failed, 2 bad input (one line says why; VLMPRUNE_TRACEBACK=1 in the environment adds the
traceback), 130 stopped by Ctrl-C, 143 by SIGTERM.
"""


@dataclass(frozen=True)
class Command:
    """A command. place: its function, whose module has its `Settings` and `HELP`; example, about: for `--help`.

    writes_files: its results are in files, and not on stdout alone. loads_libraries: it needs torch and transformers.
    """

    place: str
    example: str
    about: str
    writes_files: bool = False
    loads_libraries: bool = False

    @property
    def module(self) -> Any:
        return import_module(f"vlmprune.cli.{self.place.partition('.')[0]}")

    @property
    def run(self) -> Callable[[list[str]], int]:
        """The function, which takes the arguments and returns the exit code."""
        return getattr(self.module, self.place.partition(".")[2])

    @property
    def help(self) -> str:
        return fit_help(self.module.HELP.replace("{settings}", describe(self.module.Settings)), help_width())


COMMANDS = {
    "run": Command("run.run", "method=cls ratio=0.95", "one run: evaluate, measure, record, log to W&B", True, True),
    "sweep": Command("sweep.sweep", "method=cls,fastv ratio=0.5,0.9", "one run for every combination", True, True),
    "compare": Command("compare.compare", "", "a table of finished runs, with tests and charts"),
    "score": Command("score.score", "DIR", "score the answers of a run again, by rule or by a judge", True),
    "time": Command("time.time_runs", "DIR", "measure the latency of a finished run again", True, True),
    "speed": Command("speed.speed", "", "measure what pruning saves, on synthetic prompts", True, True),
    "show": Command("show.show", 'photo.jpg "What is this?"', "draw the patches that each method keeps", True, True),
    "list": Command("listing.show_choices", "methods", "the choices: models, methods, benchmarks, ..."),
    "wandb-report": Command("wandb_report.save_report", "", "W&B charts of score against ratio, FLOPs, latency", True),
    "completion": Command("completion.print_script", "bash", "completion with the TAB key, for bash, zsh and fish"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the `vlmprune` command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    open_streams()
    os.environ["MPLBACKEND"] = "agg"  # charts are files; another backend may need a screen, or not exist
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _terminate)
    code = _run_command(arguments)
    if (error := write_error(sys.stdout)) is not None:
        say(f"vlmprune: stdout took no more ({error.strerror}): what was printed is not all there")
        if code == 0 and not isinstance(error, BrokenPipeError) and not _writes_files(arguments):
            return 2  # such a command has no other output; a reader that closes the pipe (`| head`) is not an error
    return code


def _run_command(arguments: list[str]) -> int:
    """Run the command and return its exit code. Errors that the user can correct are printed in one line."""
    try:
        return _dispatch(arguments)
    except (Exception, KeyboardInterrupt) as error:
        if (stop := find_stop(error)) is not None:
            return _print_error(error, "stopped; run the same command again to resume", stop_code(stop))
        if isinstance(error, UserError | ProcessLost):
            return _print_error(error, str(error), 2 if isinstance(error, UserError) else 1)
        if (line := resource_message(error)) is not None:
            return _print_error(error, line, 2)
        if (text := own_code.user_traceback(error)) is None or os.environ.get("VLMPRUNE_TRACEBACK") == "1":
            raise
        print(text, file=sys.stderr)
        return 1


def _print_error(error: BaseException, line: str, code: int) -> int:
    """Print the line with which the command ends, after the traceback if VLMPRUNE_TRACEBACK=1, and return `code`."""
    if os.environ.get("VLMPRUNE_TRACEBACK") == "1":
        traceback.print_exception(error)
    say(f"vlmprune: {line}")
    return code


def _terminate(number: int, frame: object) -> None:
    raise Terminated(number)


def _writes_files(arguments: list[str]) -> bool:
    return any(COMMANDS[name].writes_files for name in arguments[:1] if name in COMMANDS)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        examples = {f"{name} {command.example}": command.about for name, command in COMMANDS.items()}
        lines = [f"  vlmprune {example:<39}{about}" for example, about in examples.items()]
        print(fit_help(HELP.replace("{commands}", "\n".join(lines)), help_width()), end="")
        return 0
    if arguments[0] == "complete":  # called by the shell, see completion.py
        from vlmprune.cli.completion import candidates

        for word in candidates(" ".join(arguments[1:])):
            print(word)
        return 0
    if arguments[0] == "--version":
        from vlmprune.version import __version__

        print(f"vlmprune {__version__}")
        return 0
    for argument in arguments:
        check_length(argument)
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder was deleted: cd to one that is there") from error
    check_secrets([dict([argument.split("=", 1)]) if "=" in argument else argument for argument in arguments])
    command = COMMANDS[check_choice(arguments[0], [*COMMANDS, "--help", "--version"], "command")]
    if any(argument in ("-h", "--help") for argument in arguments[1:]):
        print(command.help, end="")
        return 0
    if command.loads_libraries:
        _prepare_libraries()
    if "WORLD_SIZE" in os.environ and arguments[0] in ("run", "sweep"):  # accelerate launch, torchrun
        from vlmprune.distributed.torchrun import run_in_all_processes

        return run_in_all_processes(command.run, arguments[1:])
    return command.run(arguments[1:])


def _prepare_libraries() -> None:
    """Check memory, and set what the libraries read when they are imported, unless the user set it: how OpenMP's
    threads wait, and no progress bars, which would break ours."""
    check_memory()
    limit_spinning()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # our own line says what could not be downloaded
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
