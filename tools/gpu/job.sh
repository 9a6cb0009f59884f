#!/usr/bin/env bash
# One rented GPU, a few minutes: tools/gpu/job.sh OUT check | train PHOTOS SECONDS | grid PHOTOS SECONDS        (see README.md beside this)
# DRY=1 runs the same on a CPU, with sizes that take seconds. A part that fails is named, and the next part goes on.
set -u
cd "$(dirname "$0")/../.."
out=$1 part=$2 photos=${3:-} seconds=${4:-400}
python=${PYTHON:-python3} dry=${DRY:-} failed=0 rounds=7 workers=8
[ -n "$dry" ] && rounds=1 workers=1
mkdir -p "$out" && out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD

run() {   # run NAME SECONDS COMMAND...: its output goes to the screen and to OUT/NAME.log
  local name=$1 limit=$2; shift 2
  timeout "$limit" "$@" 2>&1 | tee "$out/$name.log" | tail -15
  local status=${PIPESTATUS[0]}
  if [ "$status" != 0 ]; then echo "$name: exit status $status"; failed=1; fi
}

pack() {   # what came out, in pieces of 15 MB: some machines give back nothing larger
  tar cf "$out.tar" -C "$out" . && rm -f "$out"/packed.tar.* && split -b 15m -d "$out.tar" "$out/packed.tar." && rm "$out.tar"
}

case $part in
  check)
    run name 30 sh -c 'nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || echo no GPU'
    run pytest 180 "$python" -m pytest -q -m cuda ${dry:+--collect-only} tests -p no:cacheprovider --show-capture=no
    run speed 120 "$python" -m benchmarks --rounds $rounds --out "$out/speed.csv" ${dry:+--only sampler}
    run gpu 200 "$python" -m benchmarks.gpu ${dry:+small} ;;
  train) run train "$seconds" "$python" tools/flowers.py "$photos" --out "$out" ${dry:+--steps 2 --batch 4 --samples 4 --judged 4} ;;
  grid)
    run grid "$seconds" "$python" -m benchmarks.s1_grid --data "$photos" --out "$out/s1_grid.csv" --workers $workers --seconds $((seconds - 40)) \
      ${dry:+--size 16 --width 8 --blocks 1 --steps 2 --batch 4 --count 4 --held 20 --seeds 1} ;;
  *) echo "check, train or grid wanted, got $part"; exit 2 ;;
esac
pack
ls -l "$out" | tail -n +2
exit $failed
