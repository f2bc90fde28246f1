#!/bin/bash
#PBS -N distdl
#PBS -l select=2:ncpus=16:mpiprocs=4:ompthreads=4
#PBS -l place=scatter
#PBS -l walltime=01:00:00
#PBS -j oe
#PBS -r y

# qsub launch/pbs.sh    (PBS Professional, OpenPBS; on one line of `select`: nodes, their cores, ranks a node, threads a rank)
# Output and checkpoints are in jobs/NAME, by the job's name. PBS gives no notice before the walltime is over: NOTICE below
# does. The training then leaves with a checkpoint and the exit code 75, and the job submits itself again, where compute
# nodes may; submitted by hand under the same name it goes on, too.
set -euo pipefail
cd "${PBS_O_WORKDIR:?must be the directory of submission: submit this by qsub}"
set -- examples/fashion_mnist_cnn.py --epochs 5   # the script and its arguments

NOTICE=$((3600 - 120))             # seconds from the start: two minutes before the walltime above is over
PYTHON=${PYTHON:-python}
# module load openmpi            # or the MPI of your cluster
# source ~/distdl/bin/activate   # an environment with distdl
NAME=${PBS_JOBNAME:-distdl}
DIRECTORY=${DIRECTORY:-jobs/$NAME}
THREADS=${OMP_NUM_THREADS:-${NCPUS:-1}}     # ompthreads of the allocation

mkdir -p "$DIRECTORY"
cp "$0" "$DIRECTORY/job.sh"
exec >>"$DIRECTORY/output.txt" 2>&1
export DISTDL_CHECKPOINT_DIR=${DISTDL_CHECKPOINT_DIR:-$DIRECTORY/checkpoints}
export DISTDL_NUM_THREADS=$THREADS

# PBS_NODEFILE has a line for each rank.
HOSTS=$DIRECTORY/hosts.txt
cp "$PBS_NODEFILE" "$HOSTS"
timeout --foreground --preserve-status --signal=USR1 "$NOTICE" "$PYTHON" -m distdl launch --hostfile "$HOSTS" "$@" &
job=$!
trap 'kill -USR1 "$job" || true' USR1 TERM
# A signal ends `wait` early, not the job.
code=0
wait "$job" || code=$?
while kill -0 "$job" 2>/dev/null; do
    code=0
    wait "$job" || code=$?
done
if [ "$code" -eq 75 ]; then
    qsub -N "$NAME" "$DIRECTORY/job.sh" || echo "not queued again: submit $DIRECTORY/job.sh from $PWD"
fi
exit "$code"
