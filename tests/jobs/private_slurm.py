"""A Slurm of one's own: a controller and one node on this machine, with their files in a directory."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.jobs.launching import wait_for

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol")

CONFIGURATION = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
MailProg=/bin/true
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Return the programs of Slurm that this machine lacks."""
    return [name for name in PROGRAMS if _find(name) is None]


class Slurm:
    """Runs Slurm until `close`.

    Args:
        directory: for its files.
    """

    def __init__(self, directory):
        self.directory = Path(directory)
        path = self.directory / "slurm.conf"
        for name in ("state", "spool"):
            (self.directory / name).mkdir()
        path.write_text(
            CONFIGURATION.format(
                host=socket.gethostname(),
                user=getpass.getuser(),
                directory=self.directory,
                controller=_free_port(),
                node=_free_port(),
            )
        )
        (self.directory / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self.environment = {**os.environ, "SLURM_CONF": str(path)}
        self._servers = []
        for name, options in (("slurmctld", ["-c"]), ("slurmd", [])):
            with (self.directory / f"{name}.log").open("wb") as log:
                words = [_find(name), *options, "-D", "-f", str(path)]
                self._servers.append(
                    subprocess.Popen(words, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
                )
        wait_for(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T", check=False), 30)

    def run(self, *words, check=True, **variables):
        """Run one of its commands, and return what that prints."""
        environment = {**self.environment, **variables}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=self.directory)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def job(self, number):
        """Return the state of a job, such as RUNNING, and how often it was queued again."""
        fields = dict(
            field.partition("=")[::2] for field in self.run("scontrol", "show", "job", number).split() if "=" in field
        )
        return fields["JobState"], int(fields["Restarts"])

    def log(self):
        """Return what its servers have printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def close(self):
        """End it, and its jobs."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        time.sleep(1)
        for server in reversed(self._servers):
            server.terminate()
            server.wait(20)


def _find(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
