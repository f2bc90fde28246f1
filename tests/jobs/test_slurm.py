"""launch/slurm.sbatch on a real Slurm: told to leave before its time is over, queued again, with the same bits."""

import re

import pytest

from distdl.cluster.launch import mpiexec_family
from tests.faults.running import Fit
from tests.jobs.launching import ROOT, mpis, wait_for
from tests.jobs.private_slurm import Slurm, missing

pytestmark = [
    pytest.mark.job,
    pytest.mark.skipif(
        bool(missing()), reason=f"no Slurm ({', '.join(missing())} not found; Debian: slurmctld slurmd slurm-client)"
    ),
]

UNDER_WAY = ("PENDING", "CONFIGURING", "RUNNING", "SIGNALING", "COMPLETING", "REQUEUED")
ALLOW_ROOT = (
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
)

SCRIPT = """
import os
from tests.faults import training
# Slow until it is queued again: the notice comes 20 seconds after the start.
training.main(None, 10, 0.0 if "SLURM_RESTART_COUNT" in os.environ else 1.5)
"""


@pytest.fixture
def slurm(tmp_path):
    slurm = Slurm(tmp_path)
    yield slurm
    slurm.close()


@pytest.mark.parametrize("starter", ["srun", "mpiexec"])
@pytest.mark.parametrize("binaries", mpis(), ids=lambda path: path.parent.name)
def test_a_job_is_queued_again_before_its_time_is_over(slurm, tmp_path, binaries, starter):
    """Two ranks, SIGUSR1 by --signal, exit code 75, requeue; it ends like a fit that nobody disturbed."""
    whole = Fit(mpis()[0], 1, tmp_path)
    assert whole.wait() == 0, whole.text
    (tmp_path / "script.py").write_text(SCRIPT)
    plugin = "pmix" if mpiexec_family(str(binaries / "mpiexec")) == "openmpi" else "pmi2"
    options = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--time=1", "--signal=B:USR1@40"]
    number = slurm.run(
        "sbatch",
        "--parsable",
        "--output=job.out",
        *options,
        str(ROOT / "launch" / "slurm.sbatch"),
        "script.py",
        PATH=f"{binaries}:{slurm.environment['PATH']}",
        PYTHONPATH=str(ROOT),
        MPI=plugin,
        STARTER=starter,
        # Open MPI's mpiexec asks for these where root runs the tests.
        **dict.fromkeys(ALLOW_ROOT, "1"),
    )
    # Cancelled jobs and failed ones stay as they are: then there is no use in waiting.
    wait_for(lambda: slurm.job(number)[0] not in UNDER_WAY, 240)
    text = (tmp_path / "job.out").read_text() + (tmp_path / "jobs" / "distdl" / "output.txt").read_text()
    state, restarts = slurm.job(number)
    assert state == "COMPLETED", text + slurm.log()
    # More often where the machine is so slow that notice comes again.
    assert restarts >= 1
    last = int(re.search(r"SIGUSR1 on rank \d: leaving with exit code 75, to go on from step (\d+)", text)[1])
    assert f"going on after step {last}" in text
    assert re.findall(r"^step (\d+)$", text, re.MULTILINE) == [str(step) for step in range(1, 41)]
    assert f"digest {whole.digest}" in text
