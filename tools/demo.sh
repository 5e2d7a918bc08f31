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

echo "== 1/4 synthetic clips: $data"
"$python" tools/make_synthetic.py --out "$data" --seed "$seed" --preset darker --jobs "$jobs" \
    --train 60 --val 20 --unlabel 40 --arid 30 --test 40
echo "== 2/4 the chain: $out"
"$python" tools/run_pipeline.py configs/pipeline/demo.yaml --data "$data" --out "$out" --jobs "$jobs" --control "$@" \
    RNG_SEED "$((6666 + seed))"
echo "== 3/4 what it starts from, on the hidden test split: without and with gamma"
for enhancement in none gamma; do
    for model in uniformer_b32_ssv2 uniformer_b32_k600 mvit_b32_k600 sf32_k700; do
        "$python" tools/run_net.py test --cfg "exp_adapt_bn/$model/config.yaml" --overlay configs/demo.yaml \
            DATA.PATH_PREFIX "$data" OUTPUT_DIR "$out/source_$enhancement/$model" ADAPT.NAME none \
            ENHANCE.TEST "$enhancement" TEST.DATA_SELECT test TEST.NUM_ENSEMBLE_VIEWS 1 TEST.NUM_SPATIAL_CROPS 1 \
            TEST.CHECKPOINT_FILE_PATH "configs/demo_weights/$model.safetensors" >"$out/source.log" 2>&1
    done
done
"$python" tools/score.py --truth "$data/truth/test.csv" "$out"/source_*/*/test*.npz
echo "== 4/4 the report"
"$python" tools/report.py "$out" --truth "test=$data/truth/test.csv" --table
