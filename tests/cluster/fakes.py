"""Programs that stand in for those of MPI libraries."""

import stat


def fake_mpiexec(directory, says):
    directory.mkdir()
    path = directory / "mpiexec"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
