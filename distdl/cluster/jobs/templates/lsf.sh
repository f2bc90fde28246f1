#!/bin/bash
#BSUB -J @@{name}
#BSUB -n @@{all_ranks}                        # ranks in all
#BSUB -R "span[ptile=@@{ranks}]"          # ranks a node
#BSUB -R "affinity[core(@@{cores})]"      # cores, and so threads, a rank
#BSUB -W @@{hours_minutes}
@@{places}
#BSUB -wa USR1                   # notice, ...
#BSUB -wt 2                      # ... two minutes before the time is over
#BSUB -Q 75                      # told to leave: queued again
#BSUB -o %J.out

# bsub <launch/lsf.sh
# Output and checkpoints are in jobs/NAME, by the job's name. Told to leave, the training leaves with a checkpoint and the
# exit code 75, LSF queues the job again, and it goes on. Submitted anew under the same name it goes on, too.
set -euo pipefail
: "${LSB_DJOB_HOSTFILE:?must be the file of hosts: submit this by bsub}"
@@{words}

CORES=@@{cores}                          # as in affinity[] above
PYTHON=${PYTHON:-@@{python}}
REMOTE_SHELL=${REMOTE_SHELL:-ssh}  # the way to other nodes; where ssh is closed: blaunch
@@{setup}
DIRECTORY=${DIRECTORY:-jobs/${LSB_JOBNAME:-distdl}}

mkdir -p "$DIRECTORY"
exec >>"$DIRECTORY/output.txt" 2>&1
export DISTDL_CHECKPOINT_DIR=${DISTDL_CHECKPOINT_DIR:-$DIRECTORY/checkpoints}
export DISTDL_NUM_THREADS=$CORES

# LSB_DJOB_HOSTFILE has a line for each rank.
HOSTS=$DIRECTORY/hosts.txt
cp "$LSB_DJOB_HOSTFILE" "$HOSTS"
"$PYTHON" -m distdl launch --hostfile "$HOSTS" --remote-shell "$REMOTE_SHELL" "$@" &
@@{wait}
exit "$code"
