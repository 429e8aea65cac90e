"""``bimedix2 serve`` with every attempt to reach a host written to a file; run as a program by the tests.

Usage: ``python -m tests.browser.watched LOG``.
"""

from __future__ import annotations

import sys
from pathlib import Path


def watch(log: Path) -> None:
    """Append host names looked up and addresses connected to."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            with log.open("a", encoding="utf-8") as file:
                target = arguments[1] if event == "socket.connect" else arguments[0]
                file.write(f"{target[0] if isinstance(target, tuple) else target}\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    from app.cli import run

    sys.exit(run(["serve"]))
