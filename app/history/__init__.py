"""The history: threads, turns, answers and the views they speak of, in SQL."""
