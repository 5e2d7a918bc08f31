#!/usr/bin/env bash
# The same on several machines, which see the same folder: from the project's folder,
#   sbatch --nodes=4 tools/slurm/several_nodes.sh exp_adapt_bn/uniformer_b32_k600 [KEY VALUE ...]
# TRAIN.BATCH_SIZE is over all GPUs, so it must be a multiple of nodes x GPUs.
#SBATCH --job-name=nightcrawler
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export NNODES=$SLURM_NNODES RDZV=$first:$((20000 + SLURM_JOB_ID % 20000))

code=0
srun bash -c 'NODE_RANK=$SLURM_NODEID exec bash tools/launch.sh train "$@"' launch "$@" || code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
