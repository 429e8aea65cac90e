"""Runs targets in processes with limits, and finds out what each input did."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fuzz.targets import TARGETS

__all__ = ["Found", "fuzz"]

HANG_S = 20.0
"""Seconds for one input."""
MEMORY_BYTES = 3 * 2**30
"""Of a process, beyond what it is forked with; the limits of the inputs allow some tens of megabytes."""


@dataclass(frozen=True)
class Found:
    """One input that did what it must not."""

    target: str
    number: int
    what: str


def attempt(target: str, number: int, folder: Path) -> str | None:
    """Feed one input; ``None`` when it was opened or refused, else what happened."""
    from viewers.errors import ViewerError

    one = TARGETS[target]
    raw = one.made(number)
    try:
        one.run(raw, folder)
    except (ViewerError, OSError):
        return None
    except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
        return traceback.format_exc(limit=-5, chain=False)
    return None


def _work(target: str, numbers: range, at: object, pipe: object, home: Path) -> None:
    # in a run of all tests there are gigabytes of libraries already: no thread could be started under less
    limit = psutil.Process().memory_info().vms + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain there
    try:
        for number in numbers:
            at.value = number
            folder = home / str(number)
            folder.mkdir()
            what = attempt(target, number, folder)
            shutil.rmtree(folder, ignore_errors=True)
            if what is not None:
                pipe.send((number, what))
        at.value = numbers.stop
    finally:
        pipe.close()


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own is made in it


def fuzz(target: str, numbers: range) -> list[Found]:
    """Feed inputs to a target; a process that dies or hangs is a finding, and the next input goes on."""
    context = multiprocessing.get_context("fork")
    TARGETS[target].seeds()  # made once, before the processes are forked
    found: list[Found] = []
    start = numbers.start
    while start < numbers.stop:
        at = context.Value("q", start, lock=False)
        ours, theirs = context.Pipe(duplex=False)
        # Deleted here: a process that dies leaves what it was given.
        home = Path(tempfile.mkdtemp(prefix="bimedix2-fuzz-", dir=_memory()))
        part = range(start, numbers.stop)
        process = context.Process(target=_work, args=(target, part, at, theirs, home))
        process.start()
        theirs.close()
        ended = _watch(process, at, ours, target, found)
        process.join()
        shutil.rmtree(home, ignore_errors=True)
        if at.value >= numbers.stop and process.exitcode == 0:
            break
        found.append(Found(target, at.value, ended or f"the process ended with {process.exitcode}"))
        start = at.value + 1
    return found


def _watch(process: object, at: object, pipe: object, target: str, found: list[Found]) -> str:
    """Collect what is told; returns why the process was killed, if it was."""
    seen, since = at.value, time.monotonic()
    while True:
        try:
            if pipe.poll(0.2):
                number, what = pipe.recv()
                found.append(Found(target, number, what))
                continue
        except EOFError:
            return ""
        if not process.is_alive():
            with contextlib.suppress(EOFError):
                while pipe.poll(0):
                    found.append(Found(target, *pipe.recv()))
            return ""
        if at.value != seen:
            seen, since = at.value, time.monotonic()
        elif time.monotonic() - since > HANG_S:
            process.kill()
            return f"nothing for {HANG_S:g} s"
