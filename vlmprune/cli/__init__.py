"""The command line: run, sweep, compare, score, speed, show, list, wandb-report and completion.

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

from vlmprune import own_code
from vlmprune.cli import help as texts
from vlmprune.config.arguments import drop_repeated
from vlmprune.config.overrides import check_length
from vlmprune.config.secret_check import check_secrets
from vlmprune.errors import ProcessLost, Terminated, UserError, check_choice, find_stop, stop_code
from vlmprune.files import expand_path
from vlmprune.machine import check_memory, resource_message
from vlmprune.terminal import open_streams, write_error

WRITES_FILES = {"run", "sweep", "score", "speed", "show", "wandb-report"}  # commands whose results are in files


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
        print(f"vlmprune: stdout took no more ({error.strerror}): what was printed is not all there", file=sys.stderr)
        if code == 0 and not isinstance(error, BrokenPipeError) and not {*arguments[:1]} & WRITES_FILES:
            return 2  # such a command has no other output; a reader that closes the pipe (`| head`) is not an error
    return code


def _run_command(arguments: list[str]) -> int:
    """Run the command and return its exit code. Errors that the user can correct are printed in one line."""
    try:
        return _dispatch(arguments)
    except (Exception, KeyboardInterrupt) as error:
        if (stop := find_stop(error)) is not None:
            return _print_error(error, "stopped; run the same command again to go on", stop_code(stop))
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
    print(f"vlmprune: {line}", file=sys.stderr)
    return code


def _terminate(number: int, frame: object) -> None:
    raise Terminated(number)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(texts.HELP, end="")
        return 0
    if arguments[0] == "complete":  # called by the shell, see completion.py
        from vlmprune.cli.completion import candidates

        for word in candidates(" ".join(arguments[1:])):
            print(word)
        return 0
    if arguments[0] == "--version":
        from vlmprune import __version__

        print(f"vlmprune {__version__}")
        return 0
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "run": (_run, texts.RUN),
        "sweep": (_sweep, texts.SWEEP),
        "compare": (_compare, texts.COMPARE),
        "score": (_score, texts.SCORE),
        "speed": (_speed, texts.SPEED),
        "show": (_show, texts.SHOW),
        "list": (_list, texts.LIST),
        "wandb-report": (_wandb_report, texts.WANDB_REPORT),
        "completion": (_completion, texts.COMPLETION),
    }
    for argument in arguments:
        check_length(argument)
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder was deleted: cd to one that is there") from error
    check_secrets([dict([argument.split("=", 1)]) if "=" in argument else argument for argument in arguments])
    command, help_text = commands[check_choice(arguments[0], [*commands, "--help", "--version"], "command")]
    if any(argument in ("-h", "--help") for argument in arguments[1:]):
        print(help_text, end="")
        return 0
    if "WORLD_SIZE" in os.environ and command in (_run, _sweep):  # accelerate launch, torchrun
        _prepare_libraries()
        from vlmprune.distributed.torchrun import run_in_all_processes

        return run_in_all_processes(command, arguments[1:])
    return command(arguments[1:])


def _options(arguments: list[str], flags: tuple[str, ...] = ()) -> tuple[list[str], dict[str, str]]:
    """Return the key=value settings, and `--config-dir` and the given flags. Raise UserError for any other option."""
    settings: list[str] = []
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--config-dir":
            given = value if equals else next(rest, "")
            if not given:
                raise UserError("--config-dir: name a folder, such as --config-dir=configs")
            found[name] = str(expand_path(name, given))
            if not os.path.isdir(found[name]):
                raise UserError(f"--config-dir '{found[name]}': no such folder")
            found[name] = os.path.abspath(found[name])
            sys.path.insert(0, os.path.dirname(found[name]))  # the user's package is beside the config folder
        elif argument.startswith("-"):
            found[check_choice(argument, ("--config-dir", "--help", *flags), "option")] = ""
        else:
            settings.append(argument)
    return drop_repeated(settings), found


def _run(arguments: list[str]) -> int:
    multirun = ("-m", "--multirun")  # as in Hydra
    if any(argument in multirun for argument in arguments):
        return _sweep([argument for argument in arguments if argument not in multirun])
    settings, options = _options(arguments, ("--cfg", "--dry-run", "-m", "--multirun"))
    config_dir = options.get("--config-dir")
    from vlmprune.config.settings import compose_run

    config = compose_run(settings, config_dir)
    if "--cfg" in options:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(config.resolved)), end="")
        return 0
    _prepare_libraries()
    if "--dry-run" in options:
        from vlmprune.cli.dry_run import dry_run

        return dry_run(settings, config_dir)
    from vlmprune.evaluation.plan import Resources, make_plan
    from vlmprune.run import run

    run(make_plan(config), Resources())
    return 0


def _sweep(arguments: list[str]) -> int:
    settings, options = _options(arguments, ("--dry-run",))
    _prepare_libraries()
    if "--dry-run" in options:
        from vlmprune.cli.dry_run import dry_run_sweep

        return dry_run_sweep(settings, options.get("--config-dir"))
    from vlmprune.distributed.torchrun import refuse_sweep
    from vlmprune.sweep import sweep

    refuse_sweep()
    return sweep(settings, options.get("--config-dir"))


def _compare(arguments: list[str]) -> int:
    from vlmprune.cli.compare import compare

    return compare(arguments)


def _score(arguments: list[str]) -> int:
    settings, options = _options(arguments)
    from vlmprune.evaluation.rescore import score

    return score(settings, options.get("--config-dir"))


def _speed(arguments: list[str]) -> int:
    settings, options = _options(arguments)
    _prepare_libraries()
    from vlmprune.cli.speed import speed

    return speed(settings, options.get("--config-dir"))


def _show(arguments: list[str]) -> int:
    arguments, options = _options(arguments)
    _prepare_libraries()
    from vlmprune.cli.show import show

    return show(arguments, options.get("--config-dir"))


def _wandb_report(arguments: list[str]) -> int:
    settings, _ = _options(arguments)
    from vlmprune.cli.wandb_report import save_workspace

    return save_workspace(settings)


def _list(arguments: list[str]) -> int:
    settings, options = _options(arguments)
    from vlmprune.cli.listing import show_choices

    show_choices(settings, options.get("--config-dir"))
    return 0


def _completion(arguments: list[str]) -> int:
    from vlmprune.cli.completion import SCRIPTS

    print(SCRIPTS[check_choice(" ".join(arguments), SCRIPTS, "shell")], end="")
    return 0


def _prepare_libraries() -> None:
    """Check memory, and turn off the libraries' progress bars, which would break ours, unless the user set them."""
    check_memory()  # before the first of them is imported
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # our own line says what could not be downloaded
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
