"""What `vlmprune --help` and `vlmprune COMMAND --help` print."""

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

RUN = """\
vlmprune run [key=value ...]: evaluate one method on one benchmark, measure it and record it.

  vlmprune run method=cls ratio=0.95
  vlmprune run method=fastv method.k=3 keep=32 limit=200
  vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=0.9 device=cuda model.dtype=float16
  vlmprune run model=path model.path=/checkpoints/my-llava method=none

The run directory is named by a fingerprint of all that can change an answer. A finished run is printed again, an
interrupted one goes on where it stopped. Add --cfg to print the composed config without running.
"""

SWEEP = """\
vlmprune sweep [key=value,value ...]: one run for every combination, the model loaded once.

  vlmprune sweep method=cls,fastv,random ratio=0.5,0.75,0.9,0.95
  vlmprune sweep 'method=random' ratio=0.9 'seed=range(0,5)'
  vlmprune sweep experiment=fastervlm model=llava-1.5-7b method=cls,fastv ratio=0.5,0.75,0.9

experiment= is a paper's set of benchmarks (vlmprune list experiments); what is given beside it goes first.

The unpruned run and, at the same ratios, random pruning are added; baselines=false leaves them out. A job that fails is
shown at once and does not stop the others; finished jobs are skipped. Exit code 1 if any failed.
"""

COMPARE = """\
vlmprune compare [DIR ...] [key=value ...]: a table of finished runs, and a chart.

  vlmprune compare                                   everything under outputs/
  vlmprune compare method=cls,random format=markdown
  vlmprune compare chart=accuracy.png
  vlmprune compare --published                       our figures beside the published ones, and the difference

format=table|markdown|csv|json, chart=FILE.png|svg, outputs=FOLDER, and filters such as method=cls ratio=0.9.
"""

SCORE = """\
vlmprune score DIR ... [judge.key=value ...]: score the answers of run directories again, without a model.

  vlmprune score outputs/pope/tiny/cls-0.9-0123456789ab                after a scorer changed
  vlmprune score outputs/mmvet/tiny/* judge.base_url=https://host/v1 judge.model=NAME

The judge is any OpenAI-compatible endpoint; its key comes from VLMPRUNE_JUDGE_KEY in the environment. Verdicts are kept
in the run directory: the same command goes on where it stopped.
"""

LIST = """\
vlmprune list [models|methods|benchmarks|experiments|loggers]: the choices of each config group, one line each.
vlmprune list matrix: which method works on which model family, and what is lacking where one does not.

format=table|markdown
"""
