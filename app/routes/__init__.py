"""Routes of the application beside those of Gradio: one module for each topic, joined in the web server."""
