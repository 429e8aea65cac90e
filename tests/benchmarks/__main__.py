"""Run the benchmarks: ``python -m tests.benchmarks [NAME …]``."""

from __future__ import annotations

import argparse
import importlib
import os
import platform

NAMES = (
    "demo_model",
    "grounding",
    "turns",
    "streams",
    "int8",
    "cold_start",
    "render",
    "decoding",
    "series",
    "slides",
    "planes",
    "browser",
    "history",
    "search",
    "streaming",
    "encryption",
)
"""Modules of this package, each with ``run() -> (title, rows)``."""


def main() -> None:
    """Run those that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the model; 0: torch's choice")
    options = parser.parse_args()
    from tests.benchmarks.table import show

    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in options.names or NAMES:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        if options.threads:
            import torch

            torch.set_num_threads(options.threads)
        show(*module.run())


if __name__ == "__main__":
    main()
