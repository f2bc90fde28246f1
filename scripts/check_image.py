"""Runs the commands of launch/Dockerfile in a clean root of Debian, and then scripts/quickstart: no engine is needed.

As root, with debootstrap and the dev extra:
    python scripts/check_image.py [--mirror URL] [--bind PATH ...] DIRECTORY
The root has Debian's Python where the image has the one of Docker's python:3.12. Variables named PIP_... and ..._PROXY
go in, and so does what --bind names, such as a directory of certificates.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parent.parent
RELEASE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"


class CleanRoot:
    """A minimal Debian in a directory; a context manager that unmounts what it has mounted."""

    def __init__(self, directory: Path, mirror: str, binds: list[str]):
        self.directory = directory
        self._mirror = mirror
        self._binds = ["/proc", "/dev", *binds]
        self._mounted: list[Path] = []

    def __enter__(self) -> "CleanRoot":
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(self.directory), self._mirror)
        # An image has python and pip without a version.
        (self.directory / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for name in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
            if Path(name).exists():
                shutil.copy(name, self.directory / name[1:])
        for place in self._binds:
            target = self.directory / place.lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            run("mount", "--rbind", "--make-rslave", place, str(target))
            self._mounted.append(target)
        return self

    def __exit__(self, *exception: object) -> None:
        for target in reversed(self._mounted):
            run("umount", "--recursive", "--lazy", str(target))

    def run(self, command: str, user: str, directory: str, variables: dict[str, str]) -> None:
        """Run a shell command as a user ("uid:gid") in a directory."""
        uid, _, gid = user.partition(":")
        known = subprocess.run(
            ["chroot", self.directory, "getent", "passwd", uid], capture_output=True, text=True, check=False
        ).stdout.split(":")
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": known[5] if len(known) > 5 else "/",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")},
            **variables,
        }
        words = ["chroot", f"--userspec={uid}:{gid or uid}", self.directory, "/bin/sh", "-c", f'cd "$0" && {command}']
        print(f"=== {user} in {directory}: {command}", flush=True)
        subprocess.run([*words, directory], env=environment, check=True, stdin=subprocess.DEVNULL)

    def copy(self, sources: list[str], target: str, directory: str) -> None:
        """Copy files or the contents of directories of the project, as COPY does."""
        place = self.directory / os.path.join(directory, target).lstrip("/")
        for name in sources:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)


def run(*words: str) -> None:
    """Run a command to its good end."""
    subprocess.run(words, check=True)


def build(root: CleanRoot) -> None:
    """Do what launch/Dockerfile says."""
    user, directory, variables = "0:0", "/", {}
    for step in DockerfileParser(path=str(ROOT / "launch")).structure:
        name, value = step["instruction"], step["value"]
        if name == "RUN":
            root.run(value, user, directory, variables)
        elif name == "COPY":
            *sources, target = value.split()
            root.copy(sources, target, directory)
        elif name == "USER":
            user = value
        elif name == "WORKDIR":
            directory = value
            (root.directory / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            key, _, text = value.partition("=")
            variables[key] = text
        elif name == "CMD":
            root.run(shlex.join(json.loads(value)), user, directory, variables)
            # Its templates must have come with the package.
            root.run("distdl job slurm >/dev/null", user, directory, variables)
        elif name not in ("FROM", "COMMENT"):
            sys.exit(f"launch/Dockerfile: this script does not know {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="of Debian")
    parser.add_argument("--bind", action="append", default=[], help="a directory that the root has in common with this")
    parser.add_argument("directory", type=Path, help="for the root; must not exist")
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("needs root, and debootstrap")
    if options.directory.exists():
        sys.exit(f"{options.directory} exists")
    with CleanRoot(options.directory, options.mirror, options.bind) as root:
        build(root)
        archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], capture_output=True, check=True).stdout
        place = root.directory / "home/mpiuser/distdl"
        place.mkdir()
        subprocess.run(["tar", "-x", "-C", place], input=archive, check=True)
        run("chown", "-R", "1000:1000", str(place))
        root.run("scripts/quickstart", "1000:1000", "/home/mpiuser/distdl", {})
    print("launch/Dockerfile and scripts/quickstart ran to their ends")


if __name__ == "__main__":
    main()
