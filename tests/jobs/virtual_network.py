"""Several hosts on one machine: network namespaces, joined by a switch whose cables have a rate.

Each has an address, a name and a host file of its own, and is reached by a script that stands in for ssh. Made and
removed by root; needs iproute2.
"""

import contextlib
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

NETWORK = "10.77.0"

# mpiexec calls it as ssh: options, the host, and words that the host's shell puts together again.
_REMOTE_SHELL = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1
shift
if ! ip -n {prefix}-switch link show "port-$host" 2>/dev/null | grep -q "state UP"; then
    echo "$host: no route to host" >&2
    exit 255
fi
exec ip netns exec {prefix}-"$host" unshare --uts sh -c 'hostname "$0" && exec sh -c "$1"' "$host" "$*"
"""


def is_possible():
    """Say whether this process may make hosts: a test that needs them is skipped where it may not."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc", "unshare"))):
        return False
    name = f"distdl-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


class VirtualNetwork:
    """Hosts "node1", "node2" ...; a context manager that removes them at its end.

    Args:
        count: how many hosts.
        directory: where the stand-in for ssh and host files are written.
        mbit: rate of each cable, each way, in megabits a second; None: as fast as the machine.
    """

    def __init__(self, count: int, directory: Path, mbit: float | None = None):
        self.names = [f"node{i + 1}" for i in range(count)]
        self.addresses = [f"{NETWORK}.{i + 1}" for i in range(count)]
        self.mbit = mbit
        self._directory = directory
        self._prefix = f"distdl-{secrets.token_hex(3)}"
        self._switch = f"{self._prefix}-switch"
        self.remote_shell = directory / "remote-shell"

    def __enter__(self) -> "VirtualNetwork":
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        for namespace in [self._switch, *map(self._namespace, self.names)]:
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", namespace)
            shutil.rmtree(f"/etc/netns/{namespace}", ignore_errors=True)

    def command(self, name: str, *words: str) -> list[str]:
        """Return the words that run a command on a host."""
        script = 'hostname "$0" && exec "$@"'
        return ["ip", "netns", "exec", self._namespace(name), "unshare", "--uts", "sh", "-c", script, name, *words]

    def host_file(self, slots: int = 1) -> Path:
        """Write a host file of all hosts, with so many slots each."""
        path = self._directory / f"hosts-{slots}.txt"
        path.write_text("".join(f"{name}:{slots}\n" for name in self.names))
        return path

    def environment(self) -> dict[str, str]:
        """Return what makes MPI take the wire: across namespaces UCX would find shared memory."""
        return {
            "UCX_TLS": "tcp,self",
            "OMPI_MCA_btl": "tcp,self",
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_btl_tcp_if_include": f"{NETWORK}.0/24",
        }

    def unplug(self, name: str) -> None:
        """Cut a host off the net."""
        run("ip", "-n", self._switch, "link", "set", self._port(name), "down")

    def limit(self, name: str, mbit: float) -> None:
        """Give a host's cable another rate, each way."""
        for place, device in ((self._namespace(name), "eth0"), (self._switch, self._port(name))):
            rate = ["rate", f"{mbit}mbit", "burst", "256kb", "latency", "50ms"]
            run("tc", "-n", place, "qdisc", "replace", "dev", device, "root", "tbf", *rate)

    def bytes_sent(self, name: str) -> int:
        """Return how many bytes a host has sent to the net so far."""
        text = run("ip", "-n", self._namespace(name), "-s", "link", "show", "dev", "eth0")
        found = re.search(r"TX:[^\n]*\n\s*(\d+)", text)
        assert found, text
        return int(found[1])

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _port(self, name: str) -> str:
        return f"port-{name}"

    def _make(self) -> None:
        run("ip", "netns", "add", self._switch)
        run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self._switch, "link", "set", "bridge", "up")
        hosts = "".join(f"{address} {name}\n" for address, name in zip(self.addresses, self.names, strict=True))
        for name, address in zip(self.names, self.addresses, strict=True):
            self._make_host(name, address, hosts)
        self.remote_shell.write_text(_REMOTE_SHELL.format(prefix=self._prefix))
        self.remote_shell.chmod(0o755)

    def _make_host(self, name: str, address: str, hosts: str) -> None:
        namespace, port = self._namespace(name), self._port(name)
        directory = Path("/etc/netns") / namespace
        directory.mkdir(parents=True)
        (directory / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        run("ip", "netns", "add", namespace)
        run(
            "ip", "link", "add", "eth0", "netns", namespace, "type", "veth",
            "peer", "name", port, "netns", self._switch,
        )  # fmt: skip
        run("ip", "-n", self._switch, "link", "set", port, "master", "bridge", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        if self.mbit is not None:
            self.limit(name, self.mbit)


def run(*words: str) -> str:
    """Run a command, and return what it printed."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
