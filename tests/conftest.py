"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The same examples each time, none timed: a run fails by what was changed, not by chance or load.
# New examples are looked for with: make test ARGS="--hypothesis-profile search".
settings.register_profile("search", deadline=None, print_blob=True)
settings.register_profile("steady", parent=settings.get_profile("search"), derandomize=True)
settings.load_profile("steady")
