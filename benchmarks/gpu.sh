#!/usr/bin/env bash
# All that is to be measured on an accelerator, in at most 8 minutes, the bars first:
#
#     benchmarks/gpu.sh FOLDER         or: OUT=FOLDER benchmarks/gpu.sh
#     benchmarks/gpu.sh FOLDER STEP…   some steps alone, of those below
#     TINY=1 benchmarks/gpu.sh FOLDER  tries the script on a CPU: counts that say nothing
#
# Needs jax, flax, optax, jaxtyping and Pillow; PyTorch for what is beside. Each step has
# its own limit of time: one that fails or is cut off does not take the others with it.
# FOLDER gets results.jsonl and summary.md, anew after each step, log and profile.tgz, a
# trace of a step and one of an epoch, for TensorBoard or ui.perfetto.dev.
set -uo pipefail
out=${1:-${OUT:?"a folder for the results: gpu.sh FOLDER"}}
chosen=" ${*:2} "
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-$(command -v python || command -v python3)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
deadline=$((SECONDS + 465))
if [ -n "${TINY:-}" ]; then deadline=$((SECONDS + 3600)); fi
# Steps of the same shapes compile once.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$work/compiled}

step() { # NAME SECONDS BENCHMARK ARGUMENTS
  local name=$1 most=$2 begun=$SECONDS status=0
  shift 2
  if [ -n "${chosen// /}" ] && [[ "$chosen" != *" $name "* ]]; then return; fi
  if [ -n "${TINY:-}" ]; then most=600; fi
  if ((most > deadline - begun)); then most=$((deadline - begun)); fi
  echo "== $name, at most $most s: $*"
  if ((most > 0)); then
    timeout --kill-after=5 "$most" "$python" "benchmarks/$1.py" "${@:2}" \
      --json "$work/$name.json" || status=$?
  else
    status=124
  fi
  "$python" benchmarks/gpu_summary.py "$out" "$name" $((SECONDS - begun)) "$status" \
    "$work/$name.json" > /dev/null
  if [ -d "$work/profile" ]; then tar -czf "$out/profile.tgz" -C "$work" profile; fi
}

features=(--features 512 --batch 256 --repeats 5)
vse=(--modalities visual,text --dtype bfloat16 --processes 1 --repeats 20)
alexnet=(--image-size 291 --batch 256)
resnet18=(--image-size 224 --batch 256)
resnet50=(--image-size 224 --batch 64)
epoch=(--batch 256 --steps 60 --items 30k --repeats 3)
users=(--users 630 1M --optimizers sgd adam --batch 64 --repeats 20)
likes=(--features 512 --likes 10M --users 1M --items 1M --batch 16384 --repeats 1)
export=(--items 200000)
if [ -n "${TINY:-}" ]; then
  features=(--features 8 --batch 8 --steps 2 --items 300 --repeats 1)
  vse=(--modalities visual,text --dtype bfloat16 --processes 1 --repeats 1)
  alexnet=(--image-size 63 --batch 1)
  resnet18=(--image-size 32 --batch 1) resnet50=(--image-size 32 --batch 1)
  epoch=(--image-size 63 --batch 2 --steps 2 --items 300 --repeats 1)
  users=(--users 630 --optimizers adam --batch 2 --repeats 1)
  likes=(--features 8 --likes 100 --users 20 --items 90 --batch 8 --repeats 1)
  export=(--items 60 --width 8 --bits 16)
fi

{
  step features 50 epoch "${features[@]}" --profile "$work/profile/epoch"
  step alexnet 110 train_step "${vse[@]}" "${alexnet[@]}" --baseline torch \
    --profile "$work/profile/step"
  step epoch 90 epoch "${epoch[@]}" --dtype bfloat16
  step users 80 train_step --modalities text --processes 1 "${users[@]}"
  step resnet18 60 train_step "${vse[@]}" "${resnet18[@]}" --backbone resnet18
  step resnet50 80 train_step "${vse[@]}" "${resnet50[@]}" --backbone resnet50
  step features_host 50 epoch "${features[@]}" --cache host
  step likes 80 epoch "${likes[@]}"
  step export 40 export "${export[@]}"
  cat "$out/summary.md"
} 2>&1 | tee "$out/log"
