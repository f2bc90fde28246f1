"""How much processor time a container may take."""

import pytest

from distdl.core.quota import cpu_quota


def groups(tmp_path, lines, files):
    """Return a file of groups, and a directory of theirs, as Linux shows them."""
    (tmp_path / "cgroup").write_text(lines)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "cgroup", tmp_path / "fs"


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1.0),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000"}, 3.0),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("", {}, None),
    ],
)
def test_the_least_quota_counts(tmp_path, lines, files, quota):
    """Of a group and its parents, in both versions of Linux' control groups; damaged files say nothing."""
    assert cpu_quota(*groups(tmp_path, lines, files)) == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    """As beside Linux."""
    assert cpu_quota(tmp_path / "none", tmp_path) is None
