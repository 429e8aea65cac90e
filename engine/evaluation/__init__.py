"""Evaluation: how right answers are, by language, turn and attribute."""
