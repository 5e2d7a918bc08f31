#!/usr/bin/env bash
# From synthetic figures in light to a folder of real dark clips, on a CPU: render, find poses, teach in rounds, answer.
# DARK=<folder>: the dark clips, of any of the eleven actions. TRUTH=<path,label list of them>: measures the answer, nothing else.
# WORK=<folder>: what is made once. OUT=<folder>: the run. SEED=<n>: other random numbers. JOBS=<n>: tasks at a time.
# More arguments go to tools/run_pipeline.py.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dark=$(cd "${DARK:?DARK=<folder of dark clips>}" && pwd)
truth=${TRUTH:+$(realpath "$TRUTH")}
cd "$root"
python=${PYTHON:-.venv/bin/python}
work=${WORK:-demo/real}
seed=${SEED:-0}
out=${OUT:-$work/run$seed}
jobs=${JOBS:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
night() { "$python" -m nightcrawler "$@"; }

echo "== 1/4 figures in light: $work"
night synthetic --out "$work/rendered" --seed 3000 --train 45 --val 15 --unlabel 1 --arid 1 --test 1 --jobs "$jobs"
for clip in "$work"/rendered/labeled_train/Train/* "$work"/rendered/dry_run/Validation/*; do
    action=$(basename "$clip" | cut -d_ -f2)
    folder=$work/bright/${action^}
    mkdir -p "$folder"
    [ -e "$folder/$(basename "$clip")" ] || ln "$clip" "$folder/"
done
[ -f "$work/data/figures/motions.csv" ] ||
    night prepare figures --out "$work/data/figures" --count 4400 --seed 1000 --jobs "$jobs"
[ -f "$work/data/figures_val/motions.csv" ] ||
    night prepare figures --out "$work/data/figures_val" --count 440 --seed 2000 --jobs "$jobs"
echo "== 2/4 poses of the dark clips"
# A clip whose poses cannot be found is a row with the reason: pictures answer it alone.
night pose extract "$dark" "$work/data/poses/dark_train/Train" --jobs "$jobs" || [ $? -eq 3 ]
echo "== 3/4 the rounds: $out"
"$python" tools/run_pipeline.py configs/pipeline/sim_to_real.yaml --bright "$work/bright" --dark "$dark" \
    --data "$work/data" --out "$out" --jobs "$jobs" "$@" RNG_SEED "$((6666 + seed))"
echo "== 4/4 the answer: $out/submission/arid_pred.csv"
night report "$out" --table ${truth:+--truth "total_unlabel=$truth"}
