"""The rooms of the house import in one direction."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "distdl"

# room: what else of distdl it may import
MAY_IMPORT = {
    "core": set(),
    "kernels": {"core"},
    "ops": {"kernels", "core"},
    "autograd": {"ops", "core"},
    "nn": {"autograd", "ops", "core"},
    "optim": {"autograd", "kernels", "core"},
    "comm": {"kernels", "core"},
    "parallel": {"nn", "autograd", "ops", "optim", "comm", "kernels", "core"},
    "data": {"core"},
    "train": {"data", "parallel", "nn", "autograd", "ops", "optim", "comm", "kernels", "core"},
    "cluster": {"comm", "core", "parallel"},
    "cli": {"cluster", "train", "data", "parallel", "nn", "autograd", "ops", "optim", "comm", "kernels", "core"},
}

# library: the only rooms that may import it
ONLY_IN = {"mpi4py": {"comm"}, "numba": {"kernels", "core"}, "scipy": {"kernels"}}


def imports(path: Path) -> list[tuple[str, bool]]:
    """List (imported module, whether at run time) of a file, relative imports resolved."""
    package = ("distdl", *path.relative_to(PACKAGE).parent.parts)
    found = []
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = [f"{module}.{alias.name}" for alias in node.names]
        found += [(name, id(node) not in typing_only) for name in names]
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_from_the_rooms_below_it(room):
    """No file of a room imports from a room that the table does not list."""
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name, at_run_time in imports(path):
            parts = name.split(".")
            if parts[0] == "distdl" and len(parts) > 1 and parts[1] in MAY_IMPORT and at_run_time:
                assert parts[1] == room or parts[1] in MAY_IMPORT[room], f"{path}: {name}"
            if parts[0] in ONLY_IN:
                assert room in ONLY_IN[parts[0]], f"{path}: {name}"


def test_every_room_is_in_the_table():
    """A new folder of the package has to say what it may import."""
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert rooms == set(MAY_IMPORT)
