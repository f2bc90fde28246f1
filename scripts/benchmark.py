"""Measures distdl, beside PyTorch where that is installed, and writes docs/performance.md and its plots.

python scripts/benchmark.py  everything, an hour and a half on two cores; `accuracy` wants Fashion-MNIST
                             (scripts/fetch_fashion_mnist)
python scripts/benchmark.py steps memory --models cnn --quick
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from benchmarks import machine, models, report, sections  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(sections.SECTIONS)}; all by default")
    parser.add_argument("--models", nargs="+", choices=models.REFERENCES, default=list(models.REFERENCES))
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block")
    parser.add_argument("--pairs", type=int, default=7, help="of blocks")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="for `scaling`")
    parser.add_argument("--compile", action="store_true", help="let torch.compile try too")
    parser.add_argument("--quick", action="store_true", help="short blocks, to see that it works; the docs stay as is")
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "performance.json", help="read, added to, written")
    parser.add_argument("--report", action="store_true", help="write the docs from the JSON file, and measure nothing")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="directory of what is written")
    options = parser.parse_args()
    unknown = set(options.sections) - set(sections.SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(sections.SECTIONS)}")

    seconds, pairs = (0.1, 2) if options.quick else (options.seconds, options.pairs)
    names, ranks = tuple(options.models), tuple(options.ranks)
    settings = sections.Settings(names, seconds, pairs, options.quick, options.compile, ranks)
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    here = {**machine.describe(), "quick": options.quick, "seconds": seconds, "pairs": pairs}
    machines = known.setdefault("machines", {})
    for name in [] if options.report else options.sections or sections.SECTIONS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        # One section after the other: a run that is stopped has what it measured.
        before = known.get(name) if machines.get(name) == here else None
        if name == "steps" and name in known:
            keep_ratios(known, machines[name]["cpu"], here["cpu"])
        known[name] = merge(before, sections.SECTIONS[name](settings))
        machines[name] = here
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(known, indent=1) + "\n")
    print(report.text(known) if options.quick else report.write(known, options.docs))
    return 0


def merge(before: object, new: object) -> object:
    """Put new figures in the place of those of the same model, and keep the others of the same machine."""
    if isinstance(before, dict) and isinstance(new, dict) and set(before) & set(models.REFERENCES):
        return {**before, **new}
    return new


def keep_ratios(known: dict, last: str, cpu: str) -> None:
    """Keep the ratios of training steps on the CPU that they were measured on last, if that was another one."""
    elsewhere = known.setdefault("elsewhere", {})
    if last != cpu:
        elsewhere[last] = {
            model: {setup: found["ratio"] for setup, found in setups.items() if "ratio" in found}
            for model, setups in known["steps"].items()
        }
    elsewhere.pop(cpu, None)


if __name__ == "__main__":
    sys.exit(main())
