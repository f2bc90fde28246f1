#!/bin/bash
#PBS -N @@{name}
#PBS -l select=@@{nodes}:ncpus=@@{node_cores}:mpiprocs=@@{ranks}:ompthreads=@@{cores}
#PBS -l place=scatter
#PBS -l walltime=@@{time}
@@{places}
#PBS -j oe
#PBS -r y

# qsub launch/pbs.sh    (PBS Professional, OpenPBS; on one line of `select`: nodes, their cores, ranks a node, threads a rank)
# Output and checkpoints are in jobs/NAME, by the job's name. PBS gives no notice before the walltime is over: NOTICE below
# does. The training then leaves with a checkpoint and the exit code 75, and the job submits itself again, where compute
# nodes may; submitted by hand under the same name it goes on, too.
set -euo pipefail
cd "${PBS_O_WORKDIR:?must be the directory of submission: submit this by qsub}"
@@{words}

NOTICE=$((@@{seconds} - 120))             # seconds from the start: two minutes before the walltime above is over
PYTHON=${PYTHON:-@@{python}}
@@{setup}
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
@@{wait}
if [ "$code" -eq 75 ]; then
    qsub -N "$NAME" "$DIRECTORY/job.sh" || echo "not queued again: submit $DIRECTORY/job.sh from $PWD"
fi
exit "$code"
