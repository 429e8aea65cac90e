"""Static files: fonts, styles, scripts, prompts, samples and the demonstration model."""
