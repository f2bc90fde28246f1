"""Fashion-MNIST: where it is found, what it holds, and the script that fetches it."""

import gzip
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from distdl.core.errors import FileFormatError, MissingDataError
from distdl.data import fashion_mnist, load_fashion_mnist

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch_fashion_mnist"


def write(folder, images=(5, 28, 28), labels=5, largest=9, pack=False, split="t10k"):
    """Write a small set of files."""
    folder.mkdir(parents=True, exist_ok=True)
    count = int(np.prod(images))
    content = {
        "images-idx3": struct.pack(">BBBB3I", 0, 0, 8, 3, *images) + bytes(i % 256 for i in range(count)),
        "labels-idx1": struct.pack(">BBBBI", 0, 0, 8, 1, labels) + bytes([largest] * labels),
    }
    for name, data in content.items():
        path = folder / f"{split}-{name}-ubyte{'.gz' if pack else ''}"
        path.write_bytes(gzip.compress(data) if pack else data)


@pytest.mark.parametrize("pack", [False, True])
def test_images_are_scaled_and_labels_are_integers(tmp_path, pack):
    """From a given folder, plain or gzipped."""
    write(tmp_path, pack=pack)
    x, y = load_fashion_mnist("test", root=tmp_path).arrays
    assert x.shape == (5, 28, 28, 1)
    assert x.dtype == np.float32
    assert x.max() == 1.0
    assert x[0, 0, 1, 0] == np.float32(1 / 255)
    assert y.tolist() == [9] * 5
    assert y.dtype == np.int64


@pytest.mark.parametrize(
    "place", ["data/fashion-mnist", "data", "cache/distdl/fashion-mnist", "home/.cache/distdl/fashion-mnist"]
)
def test_every_place_is_looked_at(tmp_path, monkeypatch, place):
    """$DISTDL_DATA, the user's cache, and what the Debian package installs."""
    if not place.startswith("home"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DISTDL_DATA", str(tmp_path / "data"))
    assert Path("/usr/share/datasets/fashion-mnist") in fashion_mnist.places()
    write(tmp_path / place, split="train")
    assert len(load_fashion_mnist("train")) == 5


def test_a_missing_set_says_what_to_run(tmp_path):
    """The script is named, and the places."""
    with pytest.raises(MissingDataError, match=f"{tmp_path}: run scripts/fetch_fashion_mnist"):
        load_fashion_mnist(root=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"images": (5, 28, 27)}, r"\(n, 28, 28\)"),
        ({"labels": 4}, "label .* for each of 5 images"),
        ({"largest": 10}, "largest 10"),
    ],
)
def test_files_of_another_set_are_refused(tmp_path, wrong, rule):
    """Other sizes, other counts, other labels."""
    write(tmp_path, **wrong)
    with pytest.raises(FileFormatError, match=rule):
        load_fashion_mnist("test", root=tmp_path)


def test_unknown_splits_are_refused(tmp_path):
    """The message lists those there are."""
    with pytest.raises(ValueError, match="`split`"):
        load_fashion_mnist("all", root=tmp_path)


def fetch(tmp_path, tools, **environment):
    """Run the script with some of its tools, and stand-ins given as shell text."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cut", "mktemp", "mkdir", "rm", "cp", "mv", "touch"):
        (folder / name).symlink_to(shutil.which(name))
    for name, text in tools.items():
        if text is None:
            (folder / name).symlink_to(shutil.which(name))
        else:
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
    environment = {"PATH": str(folder), "TMPDIR": str(tmp_path), "HOME": str(tmp_path / "home"), **environment}
    return subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60, check=False)


PACKAGE = """
mkdir -p "$3/usr/share/datasets/fashion-mnist"
for name in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    echo content | gzip >"$3/usr/share/datasets/fashion-mnist/$name-ubyte.gz"
done
"""
TOOLS = {
    "apt-get": 'case "$*" in *download*) touch dataset-fashion-mnist_1_all.deb ;; esac',
    "dpkg-deb": PACKAGE,
    "gzip": None,
    "sha256sum": "exit 0",
}


@pytest.mark.parametrize("chosen", ["DISTDL_DATA", "XDG_CACHE_HOME", None])
def test_the_script_writes_to_where_the_loader_looks(tmp_path, monkeypatch, chosen):
    """And prints the place, leaves nothing else behind, and has nothing to do the second time."""
    for name in ("DISTDL_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    environment = {chosen: str(tmp_path / "chosen")} if chosen else {}
    done = fetch(tmp_path, TOOLS, **environment)
    assert done.returncode == 0, done.stderr
    for name, value in {"HOME": str(tmp_path / "home"), **environment}.items():
        monkeypatch.setenv(name, value)
    assert done.stdout.strip() == str(fashion_mnist.places()[0])
    assert len(os.listdir(done.stdout.strip())) == 4
    assert not list(tmp_path.glob("tmp*"))
    (tmp_path / "bin" / "apt-get").unlink()
    again = subprocess.run(
        [str(SCRIPT)],
        env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (again.returncode, again.stdout) == (0, done.stdout)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ({"sha256sum": None}, "apt-get is missing"),
        ({**TOOLS, "apt-get": "exit 1"}, "apt-get update failed"),
        ({**TOOLS, "apt-get": 'case "$*" in *download*) exit 1 ;; esac'}, "not in apt's sources"),
        ({**TOOLS, "sha256sum": None}, "SHA-256"),
    ],
)
def test_the_script_says_what_went_wrong(tmp_path, tools, message):
    """No apt, no network, no package, other files: an exit code, a line, and no files."""
    done = fetch(tmp_path, tools)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "home").exists()
