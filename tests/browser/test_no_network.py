"""Zero outside requests, where none could succeed: server and browser in a namespace without a route.

Where namespaces may not be made (some containers), ``test_privacy.py`` watches the same with the network
there: every address the server's process looks up, and every request of the page.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.browser.conftest import ROOT

_CHROMIUMS_OWN = {
    # what this browser asks by itself, whatever the page is; seen because nothing can answer
    "update.googleapis.com",
    "content-autofill.googleapis.com",
    "accounts.google.com",
    "clients2.google.com",
    "www.google.com",
    "[2001:4860:4860::8888]:443",  # never sent to: whether this machine has IPv6
}


def test_a_session_needs_nobody(tmp_path):
    """The page opens, an image is read, the model answers, the language changes: nobody else was asked."""
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rn", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody make a network namespace")
    run = [unshare, "-rn", sys.executable, "-m", "tests.browser.without_network", str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "result.json").read_text())
    own = f"127.0.0.1:{found['port']}"
    assert found["ended"] in ("complete", "length")
    assert found["failed"] == []
    assert found["hosts"] == [own]
    assert set(found["server"]) | set(found["processes"]) <= {"127.0.0.1", "localhost", "::1", "None"}
    asked = {one.removeprefix("https://").removeprefix("http://") for one in found["browser"]}
    assert own in asked  # the record is read aright
    elsewhere = {one for one in asked if not one.startswith(("127.0.0.1", "localhost", "[::1]"))}
    assert {one for one in elsewhere if not one.endswith(":53")} <= _CHROMIUMS_OWN
