#!/bin/bash
#$ -N distdl
#$ -pe mpi 32                     # cores in all; the name of the environment is your cluster's: `qconf -spl`
#$ -l s_rt=00:58:00,h_rt=01:00:00   # at s_rt USR1 gives notice, at h_rt the time is over
#$ -r y
#$ -cwd
#$ -S /bin/bash
#$ -j y

# qsub launch/sge.sh examples/fashion_mnist_cnn.py --epochs 5
# Output and checkpoints are in jobs/NAME, by the job's name. Told to leave, the training leaves with a checkpoint; the job
# then ends with 99, by which Grid Engine queues it again, and goes on. Submitted anew under the same name it goes on, too.
set -euo pipefail
: "${PE_HOSTFILE:?must be the file of hosts: submit this by qsub}"
: "${1:?usage: qsub launch/sge.sh script.py [arguments]}"

CORES=4                          # cores, and so threads, a rank
PYTHON=${PYTHON:-python}
# module load openmpi            # or the MPI of your cluster
# source ~/distdl/bin/activate   # an environment with distdl
DIRECTORY=${DIRECTORY:-jobs/${JOB_NAME:-distdl}}

mkdir -p "$DIRECTORY"
exec >>"$DIRECTORY/output.txt" 2>&1
export DISTDL_CHECKPOINT_DIR=${DISTDL_CHECKPOINT_DIR:-$DIRECTORY/checkpoints}
export DISTDL_NUM_THREADS=$CORES

# PE_HOSTFILE has a line for each node: its name, and how many cores.
HOSTS=$DIRECTORY/hosts.txt
awk -v cores="$CORES" '$2 >= cores { print $1 ":" int($2 / cores) }' "$PE_HOSTFILE" >"$HOSTS"
"$PYTHON" -m distdl launch --hostfile "$HOSTS" "$@" &
job=$!
trap 'kill -USR1 "$job" || true' USR1 TERM
# A signal ends `wait` early, not the job.
code=0
wait "$job" || code=$?
while kill -0 "$job" 2>/dev/null; do
    code=0
    wait "$job" || code=$?
done
[ "$code" -ne 75 ] || exit 99
exit "$code"
