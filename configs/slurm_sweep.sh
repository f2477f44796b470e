#!/bin/bash
# A sweep as a SLURM job array: eight jobs work on one shared folder, and any of them may be
# killed and submitted again.
#   sbatch configs/slurm_sweep.sh configs/sweep_privacy_utility.yaml /shared/sweep
#   phoenix-secure sweep report /shared/sweep      # whenever you want to look
#SBATCH --job-name=phoenix-sweep
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@60
set -euo pipefail
exec phoenix-secure sweep "$1" --out "$2" --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}"
