#!/bin/sh
# Runs a script on one machine, or on the hosts of a host file.
#   launch/mpirun.sh examples/digits_cnn.py --epochs 5
#   RANKS=8 HOSTS=hosts.txt NAME=digits launch/mpirun.sh examples/digits_cnn.py
# Exit code 75: the training was told to leave (SIGUSR1), and goes on when it is started again. `distdl launch` also
# starts it again when it dies, and passes SIGTERM on, which mpiexec of Open MPI does not.
set -eu
: "${1:?usage: launch/mpirun.sh script.py [arguments]}"

RANKS=${RANKS:-2}              # ranks in all
HOSTS=${HOSTS:-}               # a host file, one host a line; empty: this machine
NAME=${NAME:-}                 # of the job: started again under one name it goes on; empty: it starts anew
PYTHON=${PYTHON:-python3}      # a Python that has distdl, at the same path on all hosts
MPIEXEC=${MPIEXEC:-mpiexec}    # of the MPI library that mpi4py uses: `distdl doctor` tells
# distdl shares a node's cores among its ranks; set DISTDL_NUM_THREADS to decide otherwise.
[ -z "$NAME" ] || export DISTDL_CHECKPOINT_DIR="${DISTDL_CHECKPOINT_DIR:-jobs/$NAME/checkpoints}"
if [ -n "$HOSTS" ]; then
    set -- --hostfile "$HOSTS" "$PYTHON" "$@"
else
    set -- "$PYTHON" "$@"
fi
exec "$MPIEXEC" -n "$RANKS" "$@"
