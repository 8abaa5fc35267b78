#!/bin/bash
# DRAW on a Slurm cluster, one process a node; preempted or out of time, it is put back and continues.
#
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh --config=mnist --workdir=/shared/runs/mnist
#
# Everything after the script's name goes to `draw-jax train`. The run directory must be on a disk
# that all nodes share. DRAW_JAX_VENV names the environment that has draw_jax (default: .venv in the
# folder that the job is submitted from).
#
#SBATCH --job-name=draw_jax
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=draw_jax-%j.log

set -u

# Both the end of the time and a preemption send SIGTERM to the processes, which save and exit with
# 3. The shell outlives it, to put the job back into the queue.
trap 'echo "asked to stop; waiting until everything is saved"' TERM

distributed=()
if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
    distributed=(--distributed) # JAX finds its processes by Slurm's variables
fi

srun --kill-on-bad-exit=0 "${DRAW_JAX_VENV:-.venv}/bin/draw-jax" train "${distributed[@]}" "$@" &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do # the trap ended the wait, not the processes
    wait "$step"
    code=$?
done

# 0 finished, 1 error, 2 bad flags, 3 stopped and saved, 4 diverged; 143 stopped before it had begun.
if [ "$code" -eq 3 ] || [ "$code" -eq 143 ]; then
    echo "stopped, nothing lost: putting the job back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
