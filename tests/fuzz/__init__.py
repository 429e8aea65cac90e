"""Damaged files by the ten thousand: none may crash, hang, or fail in a way that is not an error of ours."""
