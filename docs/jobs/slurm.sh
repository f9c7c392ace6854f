#!/bin/bash
# Train on several nodes with Slurm:  sbatch docs/jobs/slurm.sh --model bernoulli --guide diagonal_normal --data rows.npy
# The run is in the folder RUN, which all nodes must see. Five minutes before the time limit its state is saved: submit the
# job again, and it goes on with the same bits. Where a node fails or another job takes it, Slurm queues it again itself.
#SBATCH --job-name=ppl-vae
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
# With GPUs: --gpus-per-node=4 above, PROCESSES=4, and --device cuda at the end of the command.

set -euo pipefail
RUN=${RUN:-run}
PROCESSES=${PROCESSES:-2}  # on each node
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / PROCESSES))

if [ -e "$RUN/config.json" ]; then
    job=(resume "$RUN")
else
    job=(fit --out "$RUN" "$@")
fi

srun torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$PROCESSES" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-endpoint="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500" \
    -m ppl_vae "${job[@]}"
