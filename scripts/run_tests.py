"""Runs every test of distdl in stages, counts what really ran, and measures line coverage over all ranks."""

import argparse
import contextlib
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
COVERAGE_FLOOR = 95
"""Per cent of lines, all ranks together."""
STAGE_SECONDS = 1800
MIN_MPI_TESTS = 20
"""Fewer tests on a number of ranks than this means that they were not collected."""

BENCHMARKS = ["-p", "no:cacheprovider", "scripts/benchmarks/bench_kernels.py"]

failures: list[str] = []
ran: dict[str, int] = {}


def stage(name: str, command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command, show and return its output, and note whether it failed."""
    print(f"\n=== {name}", flush=True)
    start = time.monotonic()
    lines: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    reader = threading.Thread(target=_show, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        if process.wait(STAGE_SECONDS) != 0:
            failures.append(f"{name}: exit code {process.returncode}")
    except subprocess.TimeoutExpired:
        failures.append(f"{name}: not done after {STAGE_SECONDS} s")
    finally:
        # What it has started and left, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reader.join(10)
    print(f"--- {name}: {time.monotonic() - start:.0f} s", flush=True)
    return "".join(lines)


def _show(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        print(line, end="", flush=True)
        lines.append(line)


def passed(output: str) -> int:
    """Return how many tests passed according to pytest's last line, the least over the ranks that print one."""
    counts = [int(n) for n in re.findall(r"(\d+) passed", output)]
    return min(counts) if counts else 0


def run_tests(name: str, command: list[str], environment: dict[str, str] | None = None, least: int = 1) -> None:
    """Run tests, and count them: fewer than `least` mean that they were not collected."""
    ran[name] = passed(stage(name, command, environment))
    if ran[name] < least:
        failures.append(f"{name}: only {ran[name]} tests ran, expected {least} or more")


def run_tests_on(ranks: int, python: list[str]) -> None:
    """Run the MPI tests on a number of ranks, and count them on the first."""
    bin_directory = str(Path(sys.executable).parent)
    environment = {
        "PATH": bin_directory + os.pathsep + os.environ.get("PATH", ""),
        "DISTDL_TEST_RANKS": str(ranks),
    }
    mpiexec = [str(Path(bin_directory) / "mpiexec"), "-n", str(ranks)]
    command = [*mpiexec, *python, "-m", "pytest", "-q", "--with-mpi", "-m", "mpi", "-p", "no:cacheprovider"]
    run_tests(f"MPI tests on {ranks} rank{'s' if ranks > 1 else ''}", command, environment, MIN_MPI_TESTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one process and two ranks only, no coverage floor")
    options = parser.parse_args()
    # So that a stage, which is a session of its own, ends with this.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for stale in glob.glob(str(ROOT / ".coverage*")):
        os.remove(stale)
    bare = [sys.executable, "-m"]
    python = [*bare, "coverage", "run"]
    # A worker that has died is a failure; one in its place has been seen to wait for ever.
    pytest = [*python, "-m", "pytest", "-q", "--max-worker-restart=0", "-m"]

    stage("lint", [*bare, "ruff", "check", "."])
    stage("format", [*bare, "ruff", "format", "--check", "."])
    stage("types", [*bare, "mypy"])
    # Files stay together, since their tests share kernels that are compiled once.
    run_tests("tests in one process", [*pytest, "not job", "-n2", "--dist=loadfile"])
    if not options.quick:
        # Loads and stores of vectors go unchecked by it; guard pages watch them.
        checked = [*bare, "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels/test_registry.py", "tests/ops"]
        run_tests("kernels with bounds checks", checked, {"NUMBA_BOUNDSCHECK": "1"})
        stage("benchmarks of kernels", [*bare, "pytest", "-q", *BENCHMARKS, "--benchmark-disable"])
    for ranks in (2,) if options.quick else (1, 2, 3, 4):
        run_tests_on(ranks, python)
    # Most of their time is waiting, but that of a crowd.
    run_tests("jobs that crash or hang", [*pytest, "job and not crowd", "-n3", "--dist=worksteal"])
    run_tests("a job of many ranks", [*pytest, "crowd"])
    stage("combine coverage", [*bare, "coverage", "combine", "-q"])
    floor = [] if options.quick else [f"--fail-under={COVERAGE_FLOOR}"]
    stage("line coverage", [*bare, "coverage", "report", "--skip-covered", *floor])

    print("\n=== what ran")
    for name, count in ran.items():
        print(f"{count:6d} passed  {name}")
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"\n{sum(ran.values())} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
