"""A tiny workshop shared by the tests of training."""

from __future__ import annotations

import pytest

from engine.training.demo_model import Workshop


@pytest.fixture(scope="session")
def shop() -> Workshop:
    """Make a tiny model with the demonstration model's tokenizer, once."""
    return Workshop(seed=1, tiny=True, batch=3, vision_batch=8, background=False)
