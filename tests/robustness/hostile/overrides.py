"""Settings as typed, of every command."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "overrides")

COMMANDS = ("run", "sweep", "compare", "score", "speed", "show", "list", "wandb-report", "completion")
LONG = 100_000
KEY = {"compare": "method", "score": "judge.model", "list": "format", "wandb-report": "name"}  # a setting that it has
PIECES = {
    "a control character": "\x07",
    "a NUL": "\0",
    "a lone surrogate": "\udcff",
    "a terminal escape": "\x1b[2J",
    "a line separator": "\u2028",
    "a right-to-left mark": "\u202e",
    "a line end": "\n",
    "a dictionary": "{a: {b: c}}",
    "a list": "[1, [2, 3]]",
    "nested brackets": "[" * 2000 + "]" * 2000,
    "nested dictionaries": "{a:" * 1500 + "1" + "}" * 1500,
    "nested calls": "choice(" + "sort(" * 1000 + "1" + ")" * 1001,
    "nested interpolations": "${" * 2000 + "}" * 2000,
    "open quotes": "'" * 4999,
    "an unclosed bracket": "[1, 2",
    "an unclosed interpolation": "${seed",
    "an unknown interpolation": "${nothing.like.it}",
    "an unknown resolver": "${nope:1}",
    "a created dictionary": "${oc.create:{a: 1}}",
    "a decoded list": "${oc.decode:'[1, 2]'}",
    "an unset variable": "${oc.env:NO_SUCH_VARIABLE}",
    "itself": "${%s}",
    "1e999": "1e999",
    "-1e999": "-1e999",
    "nan": "nan",
    "5,000 digits": "9" * 5000,
}
NUMBERS = {
    "ratio": ("1e999", "1e300", "-0.1", "nan", "9" * 400),
    "keep": ("-1", "10000000000000000000000000", "1e300", "9" * 4000),
    "seed": ("1e300", "99999999999999999999999", "nan", "-99999999999999999999999", "true"),
    "batch_size": ("1000000000000000000", "0", "-1", "1e3"),
    "devices": ("1000000", "10000000000000000000000", "-5"),
    "limit": ("1000000000000000000000000000000", "0", "1e999%", "101%", "'%'", "9" * 3000 + "%"),
    "shard": ("1/1000000000000000000000000000000", "'0/0'", "1/" + "9" * 4500, "2/1"),
    "latency_samples": ("1000000000", "-1", "1e9"),
    "features.memory_mb": ("1000000000000000000000000000000", "-1", "inf"),
    "show.samples": ("1000000000", "-1"),
    "judge.wait": ("1e300", "nan", "-1", "86400"),
    "judge.timeout": ("1e300", "0", "1000000000"),
    "judge.retries": ("1000000000", "-1"),
    "judge.concurrency": ("1000000", "0"),
    "judge.temperature": ("1e300", "-inf"),
    "benchmark.max_new_tokens": ("1000000000000", "0"),
    "model.max_pixels": ("1000000000000000000000000000000",),
    "logger.samples": ("1000000000000000",),
}
VIDEO = ("run", "method=none", "benchmark=msvd", "benchmark.path=.", "benchmark.videos=.")
OF_ONE = [
    (
        f"{key}={value[:40]}",
        ("run", *(() if key in ("ratio", "keep") else ("method=none",)), f"{key}={value}"),
        key.rpartition(".")[2],
    )
    for key, values in NUMBERS.items()
    for value in values
]
OTHERS: list[tuple[str, tuple[str, ...], str]] = [
    ("10,000 arguments", ("run", *(f"judge.key{n}=1" for n in range(10_000))), "settings"),
    ("10,000 arguments of speed", ("speed", *(f"speed.key{n}=1" for n in range(10_000))), "settings"),
    ("the same argument 10,000 times", ("sweep", *(["ratio=0.5"] * 10_000)), "settings"),
    ("a key of 9,000 characters", ("run", "k" * 9000 + "=1"), "is not a setting"),
    ("a key of 5,000 parts", ("run", "a." * 4000 + "a=1"), "is not a setting"),
    ("num_frames=1000000", (*VIDEO, "benchmark.num_frames=1000000"), "benchmark.num_frames=1000000"),
    ("frames_per_second=1e300", (*VIDEO, "benchmark.frames_per_second=1e300"), "benchmark.frames_per_second"),
    ("a billion jobs", ("sweep", *(f"{key}=range(0,1000)" for key in ("seed", "batch_size", "devices"))), "jobs"),
    ("a billion jobs, written", ("sweep", *([f"seed={','.join(map(str, range(1000)))}", "keep=range(1,999)"])), "jobs"),
    ("a range of 1e9", ("sweep", "seed=range(0,1e9)"), "seed"),
    ("a range without end", ("sweep", "seed=range(0,1e999)"), "seed"),
    ("a range of tiny steps", ("sweep", "ratio=range(0,1,1e-300)"), "ratio"),
    ("a range that never ends", ("sweep", "seed=range(0,10,-1)"), "seed"),
    ("a range in speed", ("speed", "seed=range(0,1e9)"), "seed"),
    ("a range in show", ("show", "seed=range(0,1e9)"), "seed"),
    ("an interval", ("sweep", "ratio=interval(0,1)"), "ratio"),
    ("a glob", ("sweep", "method=glob(*)"), "method"),
    ("nothing chosen", ("sweep", "method=choice()"), "method"),
    ("no pieces", ("sweep", "method=,,,"), "method"),
    ("one empty piece", ("sweep", "ratio=0.5,,0.9"), "ratio"),
    ("a choice of lists", ("sweep", "ratio=[1],[2]", "--dry-run"), "ratio"),
    ("a sweep in run", ("run", "ratio=choice(0.1,0.2)"), "sweep"),
    ("a cast", ("run", "method=none", "seed=int(1e300)"), "seed"),
    ("a cast to text", ("run", "batch_size=str(3)"), "batch_size"),
    ("a shuffle", ("sweep", "seed=shuffle(range(0,1e8))"), "seed"),
    ("nothing before =", ("run", "=1"), "'' is not a setting"),
    ("only an equals sign", ("sweep", "="), "'' is not a setting"),
    ("only plus signs", ("run", "+++=1"), "+++=1"),
    ("a tilde", ("run", "~method"), "removed"),
    ("a package", ("run", "method@_global_=cls"), "method"),
    ("Hydra's own", ("run", "hydra.run.dir=/tmp"), "Hydra"),
    ("Hydra's own group", ("run", "hydra/job_logging=none"), "Hydra"),
    ("Hydra's search path", ("run", "+hydra.searchpath=[file:///]"), "Hydra"),
    ("a dictionary of judge", ("run", "judge={base_url: 3}"), "judge"),
    ("no judge", ("run", "judge=null"), "judge"),
    ("a list of features", ("run", "features=[1]"), "features"),
    ("show is a number", ("run", "show=4"), "show"),
    ("a method of two", ("run", "method=[cls,fastv]"), "method"),
    ("a method that is a dictionary", ("run", "method={_target_: os.system}"), "method"),
    ("a method of an address", ("run", "method=file:///etc/passwd"), "method"),
    ("a method above the folder", ("run", "method=../benchmark/gqa"), "method"),
    ("a method that is null", ("run", "method=null"), "method"),
    ("a method's class", ("run", "method._target_=os.system"), "_target_"),
    ("a method's class, added", ("run", "+method._target_=os.system"), "_target_"),
    ("a method's class, forced", ("run", "++method._target_=os.system"), "_target_"),
    ("a model's class", ("run", "ratio=0.5", "+model._target_=os.system"), "_target_"),
    ("an info", ("run", "++model.info=3"), "info"),
    ("an unknown name, added", ("run", "+nothing=1"), "nothing"),
    ("speed.repeats=10**12", ("speed", "speed.repeats=1000000000000"), "speed.repeats"),
    ("speed.warm_up=10**12", ("speed", "speed.warm_up=1000000000000"), "speed.warm_up"),
    ("speed.new_tokens=10**12", ("speed", "speed.new_tokens=1000000000000"), "speed.new_tokens"),
    ("speed.prompt_tokens=10**12", ("speed", "speed.prompt_tokens=1000000000000"), "speed.prompt_tokens"),
    ("speed.image_size=10**9", ("speed", "speed.image_size=1000000000"), "speed.image_size"),
    ("speed.image_size=nan", ("speed", "speed.image_size=nan"), "speed.image_size"),
    ("a batch size of speed", ("speed", "batch_size=1,1000000000000000"), "batch_size"),
    (
        "workers",
        ("sweep", "method=none", "launcher=gpus", "device=cpu", "launcher.workers=1000000000", "--dry-run"),
        "launcher",
    ),
    ("workers of 1e300", ("sweep", "launcher=gpus", "launcher.workers=1e300", "--dry-run"), "launcher.workers"),
    ("a launcher's class", ("sweep", "launcher._target_=os.system"), "launcher"),
    ("an unknown launcher setting", ("sweep", "launcher.nothing=1"), "launcher.nothing"),
    ("a launcher that is a list", ("sweep", "launcher=[gpus]"), "launcher"),
    ("baselines of 1e999", ("sweep", "baselines=1e999"), "baselines"),
    ("an experiment that is a list", ("sweep", "experiment=[a]"), "experiment"),
    ("an experiment above", ("sweep", "experiment=../method/cls"), "experiment"),
    ("columns of compare", ("compare", "columns=" + ",".join(["score"] * 1000 + ["nope"])), "column"),
    ("a ratio of compare", ("compare", "ratio=" + "9" * 5000), "ratio"),
    ("a format of list", ("list", "format=[table]"), "format"),
    ("a list of null", ("list", "\0"), "kind"),
    ("a list of 100,000 characters", ("list", "m" * LONG), "mmm"),
    ("a shell of 100,000 characters", ("completion", "b" * LONG), "bbb"),
    ("a file of show", ("show", "file=" + "a" * 5000 + ".png"), "file"),
    ("a file with NUL", ("show", "file='a\0.png'"), "file"),
    ("an unknown option", ("run", "--" + "x" * LONG), "--xxx"),
    ("a config folder of 100,000 characters", ("run", "--config-dir", "d" * LONG), "ddd"),
    ("a config folder with NUL", ("list", "--config-dir=\0"), "--config-dir"),
    ("an empty config folder", ("list", "--config-dir="), "--config-dir"),
    ("no config folder", ("run", "ratio=0.5", "--config-dir"), "--config-dir"),
    ("a config folder that is a device", ("list", "--config-dir", "/dev/null"), "--config-dir"),
    ("a command of 100,000 characters", ("r" * LONG,), "rrr"),
    ("an empty command", ("",), "command"),
]
QUICK = {"10,000 arguments", "a billion jobs", "a range of 1e9", "ratio=1e999", "judge.wait=1e300", "itself"}


def doubling(count: int) -> tuple[str, ...]:
    """Settings of which each is the next one twice: 2**count characters if they were resolved."""
    names = ("outputs", "device", "shard", "data", "limit", "model.path", "model.revision", "features.folder")
    names += ("judge.model", "judge.base_url", "benchmark.suffix", "model.dtype", "positions", "scope", "budget")
    names = names[:count]
    return (*(f"{a}=" + f"${{{b}}}" * 8 for a, b in pairwise(names)), f"{names[-1]}=aaaaaaaa")


CASES = [
    *(
        case(f"{command}: a value of 100,000 characters", (command, "ratio=" + "9" * LONG), ("ratio=",))
        for command in COMMANDS
    ),
    *(case(f"{command}: a key of 100,000 characters", (command, "k" * LONG + "=1"), ("kkkk",)) for command in COMMANDS),
    *(
        case(
            f"{command}: {name}",
            (command, f"{KEY.get(command, 'ratio')}={piece.replace('%s', KEY.get(command, 'ratio'))}"),
            (KEY.get(command, "ratio"),),
            quick=command == "run" and name in QUICK,
        )
        for name, piece in PIECES.items()
        for command in (("run", "sweep", "speed", "list") if len(piece) < 20 else ("run",))
    ),
    *(case(name, words, (said,), quick=name in QUICK) for name, words, said in [*OF_ONE, *OTHERS]),
    case("doubling interpolations", ("run", *doubling(14)), ("${",)),
    case("a circle of interpolations", ("run", "data=${shard}", "shard=${data}"), ("shard",)),
    case("a setting that holds all settings", ("run", "judge.model=${judge}"), ("judge",)),
]
