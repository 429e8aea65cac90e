"""Encryption at rest: the key of a data folder, and turning it on and off."""
