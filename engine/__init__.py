"""Messages in, text events out: the model and everything about it. Knows nothing of DICOM, Gradio or SQL."""
