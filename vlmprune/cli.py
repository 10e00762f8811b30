"""The command line: run, sweep, compare, score, list. Nothing heavy is imported until a command needs it.

Exit codes: 0 done; 2 bad input, told in one line; 1 anything else, with its traceback (the run can be resumed).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from vlmprune.errors import UserError, choose

HELP = """\
vlmprune: training-free visual-token pruning of vision-language models

  vlmprune run method=cls ratio=0.95          one run: evaluate, measure, record, log to W&B
  vlmprune sweep method=cls,fastv ratio=0.5,0.9   one run for every combination
  vlmprune compare                            a table and a chart of all finished runs
  vlmprune score DIR                          score answers again, or have them judged
  vlmprune list methods                       what there is: models, methods, benchmarks

Settings are key=value, as in Hydra; `vlmprune COMMAND --help` explains each command. Other settings:

  model=tiny            the embedded model; model=path model.path=/folder for a checkpoint of yours
  benchmark=scenes      the embedded benchmark; benchmark=folder benchmark.path=/folder for images of yours
  ratio=0.95            fraction of visual tokens removed, or keep=64 tokens kept
  limit=100             a seeded subset of the questions, also limit=10% and shard=1/4
  outputs=outputs       where run directories go

Options: --help, --version, --config-dir DIR (your own configs/: method/mine.yaml adds method=mine)
"""

RUN_HELP = """\
vlmprune run [key=value ...]: evaluate one method on one benchmark, measure it and record it.

  vlmprune run method=cls ratio=0.95
  vlmprune run method=fastv method.k=3 keep=32 limit=200
  vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=0.9 device=cuda model.dtype=float16
  vlmprune run model=path model.path=/checkpoints/my-llava method=none

The run directory is named by a fingerprint of all that can change an answer. A finished run is printed again, an
interrupted one goes on where it stopped. Add --cfg to print the composed config without running.
"""

SWEEP_HELP = """\
vlmprune sweep [key=value,value ...]: one run for every combination, the model loaded once.

  vlmprune sweep method=cls,fastv,random ratio=0.5,0.75,0.9,0.95
  vlmprune sweep 'method=random' ratio=0.9 'seed=range(0,5)'
  vlmprune sweep experiment=fastervlm model=llava-1.5-7b method=cls,fastv ratio=0.5,0.75,0.9

experiment= is a paper's set of benchmarks (vlmprune list experiments); what is given beside it goes first.

The unpruned run and, at the same ratios, random pruning are added; baselines=false leaves them out. A job that fails is
shown at once and does not stop the others; finished jobs are skipped. Exit code 1 if any failed.
"""

COMPARE_HELP = """\
vlmprune compare [DIR ...] [key=value ...]: a table of finished runs, and a chart.

  vlmprune compare                                   everything under outputs/
  vlmprune compare method=cls,random format=markdown
  vlmprune compare chart=accuracy.png
  vlmprune compare --published                       our figures beside the published ones, and the difference

format=table|markdown|csv|json, chart=FILE.png|svg, outputs=FOLDER, and filters such as method=cls ratio=0.9.
"""

SCORE_HELP = """\
vlmprune score DIR ... [judge.key=value ...]: score the answers of run directories again, without a model.

  vlmprune score outputs/pope/tiny/cls-0.9-0123456789ab                after a scorer changed
  vlmprune score outputs/mmvet/tiny/* judge.base_url=https://host/v1 judge.model=NAME

The judge is any OpenAI-compatible endpoint; its key comes from VLMPRUNE_JUDGE_KEY in the environment. Verdicts are kept
in the run directory: the same command goes on where it stopped.
"""

LIST_HELP = """\
vlmprune list [models|methods|benchmarks|experiments|loggers]: the choices of each config group, one line each.
vlmprune list matrix: which method works on which model family, and what is lacking where one does not.

format=table|markdown
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `vlmprune` command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"vlmprune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vlmprune: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `vlmprune compare | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        from vlmprune import __version__

        print(f"vlmprune {__version__}")
        return 0
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "run": (_run, RUN_HELP),
        "sweep": (_sweep, SWEEP_HELP),
        "compare": (_compare, COMPARE_HELP),
        "score": (_score, SCORE_HELP),
        "list": (_list, LIST_HELP),
    }
    command, help_text = commands[choose(arguments[0], commands, "command")]
    if any(argument in ("-h", "--help") for argument in arguments[1:]):
        print(help_text, end="")
        return 0
    return command(arguments[1:])


def _options(arguments: list[str], flags: tuple[str, ...] = ()) -> tuple[list[str], dict[str, str]]:
    """Split `--config-dir DIR` and flags from key=value settings. Raises UserError for any other option."""
    settings: list[str] = []
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--config-dir":
            found[name] = value if equals else next(rest, "")
            if not os.path.isdir(found[name]):
                raise UserError(f"--config-dir '{found[name]}': no such folder")
            found[name] = os.path.abspath(found[name])
            sys.path.insert(0, os.path.dirname(found[name]))  # the user's package stands beside the config folder
        elif argument.startswith("-"):
            found[choose(argument, ("--config-dir", "--help", *flags), "option")] = ""
        else:
            settings.append(argument)
    return settings, found


def _run(arguments: list[str]) -> int:
    settings, options = _options(arguments, ("--cfg",))
    from vlmprune.config import compose_run

    config = compose_run(settings, options.get("--config-dir"))
    if "--cfg" in options:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(config.resolved)), end="")
        return 0
    _quiet_libraries()
    from vlmprune.run import run

    run(config)
    return 0


def _sweep(arguments: list[str]) -> int:
    settings, options = _options(arguments)
    _quiet_libraries()
    from vlmprune.sweep import sweep

    return sweep(settings, options.get("--config-dir"))


def _compare(arguments: list[str]) -> int:
    from vlmprune.report.compare import compare

    return compare(arguments)


def _score(arguments: list[str]) -> int:
    settings, _ = _options(arguments)  # a user's own benchmark may stand beside --config-dir
    from vlmprune.score import score

    return score(settings)


def _list(arguments: list[str]) -> int:
    settings, options = _options(arguments)
    from vlmprune.listing import show_choices

    show_choices(settings, options.get("--config-dir"))
    return 0


def _quiet_libraries() -> None:
    """transformers' and datasets' own bars would break ours; an explicit choice of the user's stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what could not be reached is said in our own line
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
