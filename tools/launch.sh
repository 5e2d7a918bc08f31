#!/usr/bin/env bash
# Start one experiment: tools/launch.sh {train|test} EXPERIMENT_FOLDER [--overlay FILE ...] [KEY VALUE ...]
# One process per GPU (one on a CPU), or NPROC=<n>. Several machines: NNODES, NODE_RANK and RDZV=<host:port> on each.
# MAX_RESTARTS=<n>: where a process dies, start all of them again, up to n times; they go on from the last checkpoint.
set -euo pipefail

task=$1
experiment=$2
shift 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)

nproc=${NPROC:-}
if [ -z "$nproc" ]; then
    # As torch will count them: CUDA_VISIBLE_DEVICES may hide some, and a list of nvidia-smi has other lines, too.
    gpus=$(PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" -m nightcrawler.utils.gpus || echo 0)
    nproc=$((gpus > 0 ? gpus : 1))
fi

where=(--standalone)
if [ "${NNODES:-1}" -gt 1 ]; then
    : "${NODE_RANK:?NNODES is set: give each machine its NODE_RANK (0, 1, ...)}"
    : "${RDZV:?NNODES is set: give RDZV=<host of rank 0>:<port>}"
    where=(--nnodes "$NNODES" --node-rank "$NODE_RANK" --rdzv-backend c10d --rdzv-endpoint "$RDZV" --rdzv-id nightcrawler)
fi

restarts=${MAX_RESTARTS:-0}
if [ "$nproc" -eq 1 ] && [ "${NNODES:-1}" -eq 1 ] && [ "$restarts" -eq 0 ]; then
    exec "$python" "$root/tools/run_net.py" "$task" --cfg "$experiment/config.yaml" "$@"
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# A machine that ends a moment before another makes torch warn of lost connections, with a trace of its own code.
export TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR}
exec "$python" -m nightcrawler.engine.launch "${where[@]}" --nproc-per-node "$nproc" --max-restarts "$restarts" \
    "$root/tools/run_net.py" "$task" --cfg "$experiment/config.yaml" "$@"
