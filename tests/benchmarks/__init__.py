"""Benchmarks: ours against the plain way in the same run, as a ratio. ``make bench`` runs them all.

They measure and print; no test asserts a time, because another program on the same machine would decide it.
"""
