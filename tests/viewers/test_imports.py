"""Importing the viewers does nothing yet."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import viewers.decoder, viewers.intake, viewers.store, viewers.view
print([name for name in ("pydicom", "PIL", "imagecodecs", "torch", "gradio") if name in sys.modules])
"""


def test_importing_loads_no_decoder():
    """The doors can be imported without pydicom, Pillow or a codec: they come with the first file."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
