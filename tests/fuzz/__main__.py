"""``make fuzz``: feed fifty thousand damaged files and say what happened.

``python -m tests.fuzz [--inputs N] [--seed FIRST] [--target NAME]``; ``--show TARGET NUMBER FILE`` writes
one input again.
"""

from __future__ import annotations

import argparse
import collections
import sys
import textwrap
import time
from pathlib import Path

from tests.fuzz import slides  # noqa: F401 - registers its targets
from tests.fuzz.drive import fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run, print a line for each target and each finding; 1 when there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--target", choices=sorted(TARGETS))
    parser.add_argument("--show", nargs=3, metavar=("TARGET", "NUMBER", "FILE"))
    options = parser.parse_args()
    if options.show:
        target, number, file = options.show
        Path(file).write_bytes(TARGETS[target].made(int(number)))
        return 0
    chosen = [TARGETS[options.target]] if options.target else list(TARGETS.values())
    shares, failed, done = sum(target.share for target in chosen), 0, 0
    for target in chosen:
        count = -(-options.inputs * target.share // shares)
        began = time.monotonic()
        found = fuzz(target.name, range(options.seed, options.seed + count))
        taken = time.monotonic() - began
        print(f"{target.name}: {count} inputs, {count / taken:.0f}/s, {len(found)} findings", flush=True)
        kinds = collections.defaultdict(list)
        for item in found:
            kinds[item.what.strip()].append(item.number)
        for what, numbers in kinds.items():
            print(f"  {target.name} {numbers[:8]} ({len(numbers)})")
            print(textwrap.indent(what, "    "))
        failed, done = failed + len(found), done + count
    print(f"{done} inputs, {failed} findings", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
