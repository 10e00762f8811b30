"""Texts of `vlmprune --help` and `vlmprune COMMAND --help`."""

HELP = """\
vlmprune: training-free visual-token pruning of vision-language models

  vlmprune run method=cls ratio=0.95              one run: evaluate, measure, record, log to W&B
  vlmprune sweep method=cls,fastv ratio=0.5,0.9   one run for every combination
  vlmprune compare                                a table of finished runs, with tests and charts
  vlmprune score DIR                              score the answers of a run again, by rule or by a judge
  vlmprune speed                                  measure what pruning saves, on synthetic prompts
  vlmprune show photo.jpg "What is this?"         draw the patches that each method keeps
  vlmprune list methods                           the choices: models, methods, benchmarks, ...
  vlmprune wandb-report                           W&B charts of score against ratio, FLOPs, latency
  vlmprune completion bash                        completion with the TAB key, for bash, zsh and fish

`vlmprune COMMAND --help` explains a command, with examples. Settings are key=value, as in Hydra, for every command. Put
quotes around a value with commas, brackets or $ in it: "outputs='/data/a, b (1)'". Give each setting once.

  method=cls            the pruning method; method.NAME=VALUE for the settings of that method
  ratio=0.95            the fraction of visual tokens removed, or keep=64 tokens kept
  model=tiny            the embedded model; model=path model.path=/folder for your checkpoint
  benchmark=scenes      the embedded benchmark; benchmark=folder benchmark.path=/folder for your images
  limit=100             a seeded subset of the questions, also limit=10% and shard=1/4
  outputs=outputs       the folder of run directories

Options: --help, --version, --config-dir DIR (your own configs/: method/mine.yaml adds method=mine)
Exit codes: 0 done, 1 failed, 2 bad input (one line says why), 130 stopped by Ctrl-C, 143 by SIGTERM
VLMPRUNE_TRACEBACK=1 in the environment adds the traceback to such a line.
"""

RUN = """\
vlmprune run [key=value ...]: evaluate one method on one benchmark, measure it and record it.

  vlmprune run method=cls ratio=0.95
  vlmprune run method=fastv method.k=3 keep=32 limit=200
  vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=0.9 device=cuda model.dtype=float16
  vlmprune run model=path model.path=/checkpoints/my-llava method=none
  vlmprune run model=llava-1.5-7b benchmark=gqa method=cls ratio=0.9 devices=4

devices=4 divides the questions among four GPUs, each with the whole model; so do torchrun and accelerate launch, as in
`torchrun --nproc-per-node 4 -m vlmprune run method=cls`. The answers are the same as those of one GPU.

The run directory is named by a fingerprint of all that can change an answer. The same command prints a finished run
again, and resumes an interrupted one.

  --cfg            print the composed config, and stop
  --dry-run        print it with tokens and FLOPs per question and whether the run is new, partly done or finished
  -m, --multirun   several values for a setting, as `vlmprune sweep`
"""

SWEEP = """\
vlmprune sweep [key=value,value ...]: one run for every combination, the model loaded once.

  vlmprune sweep method=cls,fastv,divprune ratio=0.5,0.75,0.9,0.95
  vlmprune sweep method=cls,fastv ratio=0.5,0.9 --dry-run
  vlmprune sweep 'method=random' ratio=0.9 'seed=range(0,5)'
  vlmprune sweep experiment=fastervlm model=llava-1.5-7b method=cls,fastv ratio=0.5,0.75,0.9

experiment= is a paper's set of benchmarks (vlmprune list experiments); other settings override it. A setting that only
some of the methods, benchmarks or models have applies to those: method=cls,fastv method.k=3.

The unpruned run and, at the same ratios, random pruning are added; baselines=false leaves them out. A job that fails is
shown at once and does not stop the others, unless fail_fast=true; a method that a model cannot run gets a row with the
reason. After Ctrl-C or a crash the same command skips finished jobs and resumes interrupted ones. --dry-run shows the
jobs with tokens and FLOPs, and those that are done.

Where the jobs run (vlmprune list launchers; their settings: launcher.key=value):

  launcher=inprocess   one after the other, here
  launcher=gpus        one job on each GPU of this machine; on a CPU: device=cpu launcher.workers=2
  launcher=slurm       a job array through submitit: launcher.partition=gpu launcher.time=120 launcher.array=8
  launcher=ray         a Ray cluster: launcher.address=auto

outputs/sweeps/ has a file per sweep with every job's state and reason, and a log per job. Exit codes: 0; 1 if any job
failed; 2 for bad input, before anything runs; 130 after Ctrl-C.
"""

COMPARE = """\
vlmprune compare [DIR ...] [key=value ...]: finished runs side by side, with intervals, paired tests and charts.

  vlmprune compare                                   everything under outputs/
  vlmprune compare method=cls,random format=markdown
  vlmprune compare html=report.html charts=figures
  vlmprune compare model=llava-1.5-7b columns=method,ratio,score,vs_random,flops format=latex
  vlmprune compare --hard                            the questions that need the picture's detail
  vlmprune compare --published                       our figures beside the published ones, and the difference

Runs that cannot be compared (another benchmark revision, subset, prompt, model, dtype, ...) get separate tables, and a
line names the differences. DIR: run directories, or folders of them. Filters: method, ratio, keep, model, benchmark,
limit, seed, dtype, device.

  outputs=FOLDER   the folder of run directories (outputs)
  format=          table, markdown, latex (booktabs), csv or json; the last two have every field, json a legend too
  columns=         front, method, ratio, kept, layer_avg, score, relative, vs_unpruned, vs_random, flops, prefill,
                   decode, end_to_end, kv_cache, peak_memory
  chart=FILE       .png or .svg: score against ratio and against FLOPs
  charts=FOLDER    ratio, flops, latency and categories, each as .png and .svg
  html=FILE        one HTML page: sortable tables, charts, pictures of kept tokens that runs saved

--hard scores the questions that the unpruned model answers right and pool, at the same budget, wrong (the filter of
VTC-Bench); it needs runs of none and of pool. --published: docs/published.md.
"""

SCORE = """\
vlmprune score DIR ... [judge.key=value ...]: score the answers of run directories again, without a model.

  vlmprune score outputs/pope/tiny/cls-0.9-0123456789ab                after a scorer changed
  vlmprune score outputs/mmvet/tiny/* judge.base_url=https://host/v1 judge.model=NAME

The judge is any OpenAI-compatible endpoint; its key comes from VLMPRUNE_JUDGE_KEY in the environment. Verdicts are kept
in the run directory, so that the same command resumes.
"""

SPEED = """\
vlmprune speed [key=value,value ...]: time, memory and FLOPs of methods beside the unpruned model, in one process.

  vlmprune speed
  vlmprune speed method=cls,divprune,fastv ratio=0.5,0.9 batch_size=1,8 chart=speed.png
  vlmprune speed model=llava-next-vicuna-7b model.random_weights=true method=cls,fastv ratio=0.5,0.75,0.9,0.95

The prompts are synthetic: random pixels and tokens, the same for all, so that no benchmark is needed and, with random
weights, no download. Achieved rates are shown beside those of a matrix product and a copy on the same device. A case
that does not fit into memory, or cannot run on the model, gets a row with the reason.

model, method, ratio, keep, positions, scope, budget, compile, seed, device and batch_size are those of a run; all but
model and device take several values (compile=false,true shows both). Other settings: format= as in compare,
json=FILE.json and chart=FILE.png|svg|none (default: a new pair of files under outputs/speed/MODEL/), from=FILE.json to
show a result again, and the prompts:

  speed.prompt_tokens=64   text tokens of each prompt          speed.repeats=7   timed calls of each
  speed.new_tokens=32      tokens that each prompt generates   speed.warm_up=2   calls before them
  speed.image_size=672     pixels along a side of the image
"""

SHOW = """\
vlmprune show [FILE ...] ["QUESTION"] [key=value ...]: draw what each method keeps of a picture, and print the answers.

  vlmprune show method=cls,fastv ratio=0.9                       a drawn scene, with the embedded model
  vlmprune show photo.jpg "What is on the table?" model=llava-1.5-7b method=cls,fastv,visionzip ratio=0.9 device=cuda
  vlmprune show left.png right.png "What differs?" model=path model.path=/checkpoints/my-llava method=divprune keep=64
  vlmprune show clip.mp4 "What happens?" model=video-llava-7b method=cls ratio=0.5,0.95 file=clip.png

The PNG (file=shown.png) has the unpruned answer first, then a block per method and amount: kept patches in colour with
a blue outline, merged tokens in orange at their slots, all others faded, and a heat map where the method ranks by a
score. Tiles and frames are side by side. Settings of a run: model, method, method.NAME, ratio, keep, positions, scope,
budget, seed, device.
"""

WANDB_REPORT = """\
vlmprune wandb-report [project=vlmprune] [entity=NAME] [name=TEXT]: a saved view of a W&B project, made for these runs.

  vlmprune wandb-report
  vlmprune wandb-report project=pruning entity=my-team name="cls against fastv"
  vlmprune wandb-report file=view.json        the view as JSON, without an account or a network

It has charts of score against reduction, FLOPs, prefill latency and memory, one point a run, and the pictures of kept
tokens. Needs pip install 'vlmprune[wandb-report]' and an API key; docs/wandb.md describes the same view by hand.
"""

LIST = """\
vlmprune list [models|methods|benchmarks|experiments|loggers|launchers|matrix]: print the choices.

  vlmprune list methods
  vlmprune list models benchmarks --config-dir configs      with your own
  vlmprune list matrix format=markdown                      methods by model family, with what a family lacks

format=table|markdown
"""

COMPLETION = """\
vlmprune completion bash|zsh|fish: print the script that lets the TAB key complete commands, settings and choices.

  eval "$(vlmprune completion bash)"                                       in ~/.bashrc
  eval "$(vlmprune completion zsh)"                                        in ~/.zshrc, after compinit
  vlmprune completion fish > ~/.config/fish/completions/vlmprune.fish

Then, for example, `vlmprune run method=py<TAB>` and `vlmprune sweep method=fastv method.<TAB>`.
"""
