#!/usr/bin/env bash
# All that needs a GPU, in one command: the engine's checks on CUDA in three precisions, and what pruning saves there.
#
#   scripts/gpu_suite.sh [FOLDER]            on a CUDA device; FOLDER gets log.txt and, for each model, JSON and a chart
#                                            of every step (default: named after the GPU, as in
#                                            outputs/reference/speed-h200)
#   scripts/gpu_suite.sh --tiny [FOLDER]     the same steps on the CPU with the embedded model, in about two minutes
#
# STEPS chooses among checks, speed, attentions and compile (default: all). PYTHON is the interpreter (default python3);
# torch and transformers are expected there. On a machine without network the other packages come from wheels/, which is
# filled where there is one (for Python 3.12 there):
#
#   pip wheel --no-deps --wheel-dir wheels antlr4-python3-runtime==4.9.3
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --dest wheels \
#     'hydra-core>=1.3.8,<1.4' 'omegaconf>=2.3,<2.4' 'setuptools>=77'
set -euo pipefail
cd "$(dirname "$0")/.."

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
  models=tiny
  checks=(-k "golden or float32 and llava")
  common=(device=cpu speed.new_tokens=4 speed.repeats=2 speed.warm_up=1)
  grid=(method=cls,fastv ratio=0.5,0.9 batch_size=1,2)
else
  export VLMPRUNE_TEST_DEVICE=cuda
  models="llava-1.5-7b llava-next-vicuna-7b"
  checks=()
  common=(device=cuda model.random_weights=true model.dtype=float16 speed.new_tokens=16)
  common+=(speed.repeats=5 speed.warm_up=1)
  grid=(method=cls,fastv ratio=0.5,0.75,0.9,0.95 batch_size=1,16)
fi

step() { # a title and a command: both stand in the log, with the seconds since the start
  printf '\n[%4d s] %s\n' "$SECONDS" "$1"
  shift
  printf '$'
  printf ' %q' "$@"
  printf '\n'
  "$@"
}

wants() { # whether a step is among those chosen
  [[ " ${STEPS:-checks speed attentions compile} " == *" $1 "* ]]
}

suite() {
  if [ -d wheels ]; then
    step "packages from wheels/" "$python" -m pip install --quiet --no-index --find-links wheels --upgrade \
      setuptools hydra-core omegaconf antlr4-python3-runtime
  fi
  if ! "$python" -c 'import vlmprune.configs' 2>/dev/null; then
    step "vlmprune itself" "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
  fi
  if ! $tiny; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv
  fi
  if wants checks; then
    step "checks of the engine" "$python" -m pytest -m gpu tests/gpu "${checks[@]}"
  fi
  for model in $models; do
    settings=("model=$model" "${common[@]}")
    if [ "$model" = llava-next-vicuna-7b ]; then
      settings+=(model.packing=fastervlm) # 2880 visual tokens, as in the published figures
    fi
    if wants speed; then
      step "$model: vlmprune speed" "$python" -m vlmprune speed "${settings[@]}" "${grid[@]}" \
        "json=$folder/$model-speed.json" "chart=$folder/$model-speed.png"
    fi
    if wants attentions; then
      step "$model: against output_attentions" "$python" scripts/bench_output_attentions.py "${settings[@]}" \
        "${grid[@]/#ratio=*/ratio=0.9}" "json=$folder/$model-output_attentions.json"
    fi
    if wants compile; then
      step "$model: compiled decode steps" "$python" -m vlmprune speed "${settings[@]}" \
        method=cls ratio=0.95 batch_size=1 compile=false,true \
        "json=$folder/$model-compiled.json" "chart=$folder/$model-compiled.png"
    fi
  done
  printf '\n[%4d s] done; results in %s\n' "$SECONDS" "$folder"
}

mkdir -p "$folder"
suite 2>&1 | tee "$folder/log.txt"
