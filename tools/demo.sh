#!/usr/bin/env bash
# The method on synthetic night clips, on a CPU: render, train, adapt, pseudo-label, vote, report.
# SIZE=small: two models, two rounds, fewer clips, in minutes. SIZE=full: the 21 trainings of the method in four rounds,
# expert, vote and control. POSE=1: with the extra `pose`, a model of skeletons votes, too, which takes as long again.
# SEED=<n>: another set of clips and other random numbers. DATA=<folder>, OUT=<folder>: where clips and the run are kept;
# what is there already is used again. JOBS=<n>: tasks at a time. CEILING=1: a figure of models that are told the true
# labels, which no figure but its own is made from. More arguments go to tools/run_pipeline.py (--oracle).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=${PYTHON:-.venv/bin/python}
size=${SIZE:-small}
seed=${SEED:-0}
jobs=${JOBS:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

case $size in
small)
    recipe=demo_small
    models=(uniformer_b32_k600 sf32_k700)
    data=${DATA:-demo/small$seed/data}
    out=${OUT:-demo/small$seed/run}
    clips=(--preset street --train 24 --val 8 --unlabel 20 --arid 10 --test 20)
    control=()
    ;;
full)
    recipe=demo
    models=(uniformer_b32_ssv2 uniformer_b32_k600 mvit_b32_k600 sf32_k700)
    data=${DATA:-demo/data$seed}
    out=${OUT:-demo/run$seed}
    clips=(--preset darker --train 60 --val 20 --unlabel 40 --arid 30 --test 40)
    control=(--control)
    ;;
*)
    echo "error: SIZE=$size: expected small or full" >&2
    exit 2
    ;;
esac

ceiling=()
if [ "${CEILING:-0}" = 1 ]; then
    ceiling=(--ceiling "$data/truth/dark_unlabel.csv")
fi

echo "== 1/4 synthetic clips: $data"
"$python" tools/make_synthetic.py --out "$data" --seed "$seed" --jobs "$jobs" "${clips[@]}"
echo "== 2/4 the chain: $out"
"$python" tools/run_pipeline.py "configs/pipeline/$recipe.yaml" --data "$data" --out "$out" --jobs "$jobs" \
    "${control[@]}" "${ceiling[@]}" "$@" RNG_SEED "$((6666 + seed))"
echo "== 3/4 what it starts from, on the hidden test split: without and with gamma"
for enhancement in none gamma; do
    for model in "${models[@]}"; do
        "$python" tools/run_net.py test --cfg "exp_adapt_bn/$model/config.yaml" --overlay configs/demo.yaml \
            DATA.PATH_PREFIX "$data" OUTPUT_DIR "$out/source_$enhancement/$model" ADAPT.NAME none \
            ENHANCE.TEST "$enhancement" TEST.DATA_SELECT test TEST.NUM_ENSEMBLE_VIEWS 1 TEST.NUM_SPATIAL_CROPS 1 \
            TEST.CHECKPOINT_FILE_PATH "configs/demo_weights/$model.safetensors" >"$out/source.log" 2>&1
    done
done
"$python" tools/score.py --truth "$data/truth/test.csv" "$out"/source_*/*/test*.npz
if [ "$size" = full ] && [ "${POSE:-0}" = 1 ]; then
    echo "== and how people move: poses of the clips are extracted first"
    skeleton=(--cfg exp_pose/skeleton/config.yaml DATA.PATH_PREFIX "$data" OUTPUT_DIR "$out/exp_pose/skeleton")
    "$python" tools/run_net.py train "${skeleton[@]}" RNG_SEED "$((6666 + seed))"
    "$python" tools/run_net.py test "${skeleton[@]}" TEST.DATA_SELECT test TEST.NUM_ENSEMBLE_VIEWS 1 \
        TEST.NUM_SPATIAL_CROPS 1 || [ $? = 3 ]
    "$python" test_ensemble_vote.py --recipe configs/vote/pose.yaml --prefix "$out" --split test \
        --out "$out/submission_pose"
    "$python" tools/score.py --truth "$data/truth/test.csv" "$out"/exp_pose/skeleton/test*.npz \
        "$out/submission/arid_pred.csv" "$out/submission_pose/arid_pred.csv"
fi
echo "== 4/4 the report"
"$python" tools/report.py "$out" --truth "test=$data/truth/test.csv" --table
