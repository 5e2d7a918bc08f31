#!/usr/bin/env bash
# The method's first stage on synthetic night clips, on a CPU: make data, train with BatchNorm adaptation, test, score.
# DATA=<folder> keeps the data elsewhere; NPROC=<n> trains on n processes. Data that is there already is used again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=${PYTHON:-.venv/bin/python}
data=${DATA:-data/synthetic}
experiment=exp_adapt_bn/uniformer_b32_k600
common=(--overlay configs/demo.yaml DATA.PATH_PREFIX "$data")
export NPROC=${NPROC:-2}

echo "== 1/4 synthetic clips: $data"
"$python" tools/make_synthetic.py --out "$data" --jobs 2
echo "== 2/4 train and adapt: $experiment"
# The small models have no pre-trained weights: the first stage starts from random ones.
bash "$experiment/run.sh" "${common[@]}" TRAIN.CHECKPOINT_FILE_PATH ""
echo "== 3/4 test"
for split in val_dry arid test; do
    bash "$experiment/test.sh" "${common[@]}" TEST.DATA_SELECT "$split"
done
echo "== 4/4 accuracy (chance is 9.1 %)"
"$python" tools/score.py --truth "$data/truth/test.csv" "$experiment"/{val_dry,arid,test}x*.pkl
