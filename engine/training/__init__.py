"""Training: data, the two stages of the paper, and the demonstration model."""
