"""Routes of the application beside Gradio's: one module for each topic, joined by :func:`app.web.routes`."""
