#!/usr/bin/env bash
# All that needs a GPU, in one command: what pruning saves there, and the engine's checks on CUDA in three precisions.
#
#   scripts/gpu_suite.sh [FOLDER]            on a CUDA device, in about 8 minutes on an H100 (default FOLDER: named after
#                                            the GPU, as in outputs/reference/speed-h100)
#   scripts/gpu_suite.sh --tiny [FOLDER]     the same steps on the CPU with the embedded model, in about two minutes
#
# The most valuable steps come first, every result is written as it comes, and a step that fails ends nothing but itself.
# FOLDER gets at most 8 files: log.txt and JSON. `vlmprune speed from=FILE.json` shows a JSON again and draws its chart.
#
# STEPS chooses among the steps below (default: all, in their order), so that a second call goes on where a first ended.
# PYTHON is the interpreter (default python3); torch and transformers are expected there. On a machine without network
# the other packages come from wheels/, which is filled where there is one (for Python 3.12 there):
#
#   pip wheel --no-deps --wheel-dir wheels antlr4-python3-runtime==4.9.3
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --dest wheels \
#     'hydra-core>=1.3.8,<1.4' 'omegaconf>=2.3,<2.4' 'setuptools>=77,<82'
set -uo pipefail
cd "$(dirname "$0")/.." || exit

ALL="device golden next-speed next-compiled llava-compiled llava-speed attentions selections checks throughput"

tiny=false
if [ "${1:-}" = --tiny ]; then
  tiny=true
  shift
fi
if [ $# -gt 0 ]; then
  folder=$1
elif $tiny; then
  folder=outputs/reference/speed-tiny
else
  name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1) # 'NVIDIA H200' is speed-h200
  name=${name#NVIDIA }
  name=${name//[^A-Za-z0-9]/-}
  folder=outputs/reference/speed-${name,,}
fi
python=${PYTHON:-python3}
export TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONUNBUFFERED=1

if $tiny; then
  export VLMPRUNE_TEST_DEVICE=cpu
  llava=(model=tiny device=cpu speed.new_tokens=4 speed.repeats=2 speed.warm_up=1)
  next=("${llava[@]}")
  golden=(-k "golden and fastv")
  checks=(-k "float32 and llava and parts")
  ratios=0.5,0.9
  batches=1,2
  limit=8
else
  export VLMPRUNE_TEST_DEVICE=cuda
  common=(device=cuda model.random_weights=true model.dtype=float16 speed.new_tokens=16 speed.repeats=5 speed.warm_up=1)
  llava=(model=llava-1.5-7b "${common[@]}")
  next=(model=llava-next-vicuna-7b model.packing=fastervlm "${common[@]}") # 2880 visual tokens, as published
  golden=(-k "golden or compiled or same_tokens and llava and not next")
  checks=(-k "not golden and not compiled and not same_tokens")
  ratios=0.5,0.75,0.9,0.95
  batches=1,16
  limit=1000
fi

declare -A outcome
step() { # a title, the seconds that it may take, and a command: all stand in the log, with the seconds since the start
  local title=$1 seconds=$2
  shift 2
  printf '\n[%4d s] %s\n$' "$SECONDS" "$title"
  printf ' %q' "$@"
  printf '\n'
  timeout --signal=INT --kill-after=10 "$seconds" "$@"
  local code=$?
  outcome[$title]=$code
  return $code
}

speed() { # a title, the seconds that it may take, the JSON, and settings
  local title=$1 seconds=$2 json=$3
  shift 3
  step "$title" "$seconds" "$python" -m vlmprune speed "$@" "json=$folder/$json.json" chart=none
}

suite() {
  if [ -d wheels ]; then
    step packages 60 "$python" -m pip install --quiet --no-index --find-links wheels --upgrade \
      setuptools hydra-core omegaconf antlr4-python3-runtime
  fi
  if ! "$python" -c 'import vlmprune.configs' 2>/dev/null; then
    step install 60 "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
  fi
  for name in ${STEPS:-$ALL}; do
    case $name in
    device)
      $tiny || step device 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv
      ;;
    golden) step golden 120 "$python" -m pytest --show-capture=no -m gpu tests/gpu "${golden[@]}" ;;
    next-speed) speed $name 150 next-speed "${next[@]}" method=cls,fastv "ratio=$ratios" "batch_size=$batches" ;;
    next-compiled) speed $name 200 next-compiled "${next[@]}" method=none,cls ratio=0.95 compile=false,true batch_size=1 ;;
    llava-compiled) speed $name 150 llava-compiled "${llava[@]}" method=none,cls ratio=0.95 compile=false,true batch_size=1 ;;
    llava-speed) speed $name 100 llava-speed "${llava[@]}" method=cls,fastv "ratio=$ratios" "batch_size=$batches" ;;
    attentions)
      for model in next llava; do
        local -n settings=$model
        step "$model against output_attentions" 60 "$python" scripts/bench_output_attentions.py "${settings[@]}" \
          method=cls ratio=0.9 batch_size=1 "json=$folder/$model-attentions.json"
      done
      ;;
    selections)
      speed $name 60 selections "${next[@]}" method=divprune,vispruner,sparsevlm ratio=0.95 batch_size=1
      ;;
    checks) step checks 200 "$python" -m pytest --show-capture=no -m gpu tests/gpu "${checks[@]}" ;;
    throughput) step throughput 60 "$python" scripts/bench_throughput.py --limit "$limit" ;;
    *)
      echo "STEPS=$name: no such step; allowed: $ALL"
      outcome[$name]=2
      ;;
    esac
  done
  printf '\n[%4d s] done; results in %s\n' "$SECONDS" "$folder"
  local failed=0
  for name in "${!outcome[@]}"; do
    if [ "${outcome[$name]}" -ne 0 ]; then
      echo "FAILED with exit code ${outcome[$name]}: $name"
      failed=1
    fi
  done
  return $failed
}

mkdir -p "$folder"
suite 2>&1 | tee -a "$folder/log.txt"
