#!/usr/bin/env bash
# The whole chain on synthetic night clips, on a CPU: render, 21 trainings in four rounds, expert, vote, control, report.
# SEED=<n>: another set of clips and other random numbers. DATA=<folder>, OUT=<folder>: where clips and the run are kept;
# what is there already is used again. JOBS=<n>: links at a time. More arguments go to tools/run_pipeline.py (--oracle).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=${PYTHON:-.venv/bin/python}
seed=${SEED:-0}
data=${DATA:-demo/data$seed}
out=${OUT:-demo/run$seed}
jobs=${JOBS:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

echo "== 1/3 synthetic clips: $data"
"$python" tools/make_synthetic.py --out "$data" --seed "$seed" --preset darker --jobs "$jobs" \
    --train 60 --val 20 --unlabel 40 --arid 30 --test 40
echo "== 2/3 the chain: $out"
"$python" tools/run_pipeline.py configs/pipeline/demo.yaml --data "$data" --out "$out" --jobs "$jobs" --control "$@" \
    RNG_SEED "$((6666 + seed))"
echo "== 3/3 the report"
"$python" tools/report.py "$out" --truth "test=$data/truth/test.csv" --table
