"""Entry of a Hugging Face Space: ``bimedix2 serve`` with the settings a public demonstration needs."""

import os
import sys

from app.cli import run

if __name__ == "__main__":
    os.environ.setdefault("BIMEDIX2_HOST", "0.0.0.0")  # noqa: S104 - a Space is reached through its proxy only
    os.environ.setdefault("BIMEDIX2_OWNERSHIP", "visitor")
    os.environ.setdefault("BIMEDIX2_SECURE_COOKIES", "true")
    os.environ.setdefault("BIMEDIX2_FRAME_ANCESTORS", "https://huggingface.co")
    sys.exit(run(["serve"]))
