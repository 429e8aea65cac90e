"""The page: Gradio Blocks of four parts, each with constant markup and a script of the application's own.

Gradio carries events, streams answers and keeps the connection; the parts draw themselves from plain
values (see ``assets/js``). Markup is constant because Gradio evaluates component templates as code: a
title or an answer inside one would run. Own parts instead of ``gr.Chatbot`` because a message here has a
direction for each paragraph, a state, earlier answers and the view it is about, and must load no picture
a model writes an address of.
"""

from importlib.resources import files

import gradio as gr

from app.ui.events import Events
from i18n.catalogue import Catalogue

__all__ = ["build_page"]

_IDLE_POLL_S = 0.02
"""Gradio looks for queued events every millisecond by default, a tenth of a core while nobody asks."""


def build_page(events: Events) -> gr.Blocks:
    """Blocks of the page, with every event connected."""
    with gr.Blocks(
        title=Catalogue().text("app.title", "en"), fill_width=True, analytics_enabled=False
    ) as page:
        with gr.Column(elem_id="page"):
            _part("header", ())
            with gr.Row(elem_id="workbench"):
                history = _part("history", ("open", "rename", "remove", "list"))
                _part("viewer", ())
                chat = _part("chat", ("ask", "again", "edit", "twin", "stop", "refresh"))
        light = {
            "queue": False,
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "multiple",
        }
        streamed = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "multiple",
            "concurrency_id": "answers",
            "concurrency_limit": None,
        }
        page.load(events.load, None, [history, chat], **light)
        history.open(events.open, None, [history, chat], **light)
        history.rename(events.rename, None, [history, chat], **light)
        history.list(events.list, None, [history, chat], **light)
        history.remove(events.remove, None, [history, chat], **light)
        chat.ask(events.ask, None, [history, chat], **streamed)
        chat.again(events.again, None, [history, chat], **streamed)
        chat.edit(events.edit, None, [history, chat], **streamed)
        chat.twin(events.twin, None, [history, chat], **streamed)
        chat.refresh(events.refresh, None, [history, chat], **light)
        chat.stop(events.stop, None, None, **light)
    page.queue(default_concurrency_limit=None)
    if hasattr(page._queue, "sleep_when_free"):  # noqa: SLF001 - no public setting; see _IDLE_POLL_S
        page._queue.sleep_when_free = _IDLE_POLL_S  # noqa: SLF001
    return page


def _part(name: str, triggers: tuple[str, ...]) -> gr.HTML:
    """Return a part of the page; Gradio finds the events it may send by their names in the script."""
    return gr.HTML(
        html_template=files("app.ui").joinpath(f"{name}.html").read_text(encoding="utf-8"),
        js_on_load=f"window.bimedix2.mount('{name}', element, props, trigger, watch, {list(triggers)});",
        apply_default_css=False,
        elem_id=name,
    )
