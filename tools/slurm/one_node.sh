#!/usr/bin/env bash
# Train on the GPUs of one machine, across as many jobs as it takes: from the project's folder,
#   sbatch tools/slurm/one_node.sh exp_adapt_bn/uniformer_b32_k600 [KEY VALUE ...]
# Five minutes before the time limit Slurm signals the run, which saves, ends with exit code 75 and is queued again.
#SBATCH --job-name=nightcrawler
#SBATCH --nodes=1
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

code=0
srun bash tools/launch.sh train "$@" || code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
