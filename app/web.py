"""The web server: own routes for files and pixels, the page, and one way to start them.

Patient data never goes through Gradio's file handling, which any visitor may read; it goes through the
routes here, and each of them asks the workspace as the owner of the request.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.errors import AppError
from app.routes import account, answering, history, images, measure, prompts, review, slides, studies
from app.ui.guard import OWNER, Guard
from app.ui.page_head import page_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from app.accounts.people import People
    from app.session import Workspace
    from app.settings import Settings
    from app.ui.identity import Identities

__all__ = ["PortTakenError", "launch", "routes", "serve"]

_LOG = logging.getLogger("bimedix2.web")
_ENVIRONMENT: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Set before Gradio is imported: without them it calls out, and keeps questions in the browser's storage."""
_STATIC_FOLDERS: Final = ("css", "js", "fonts", "icons")


class PortTakenError(AppError):
    """Another program listens on the port already."""

    key = "cli.port_taken"
    template = "The port {port} is in use already. Choose another one with --port, or stop the other program."


def serve(workspace: Workspace, on_ready: Callable[[str], None] | None = None) -> None:
    """Start the page and wait until the process is told to end.

    Parameters
    ----------
    workspace : Workspace
        What the page works on; stays open.
    on_ready : callable, optional
        Called once with the address, when the page answers.

    Raises
    ------
    PortTakenError
        If the port is in use.
    """
    page, url = launch(workspace)
    if threading.current_thread() is threading.main_thread():
        # a service manager's request to end is answered like Ctrl+C: running answers are kept
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if on_ready is not None:
            on_ready(url)
        while page.is_running:
            time.sleep(1)
    except KeyboardInterrupt:
        _LOG.info("told to end")
    finally:
        page.close(verbose=False)


def launch(workspace: Workspace) -> tuple[Any, str]:
    """Start the page in threads of its own; returns the ``gradio.Blocks``, to be closed, and the address.

    Raises
    ------
    PortTakenError
        If the port is in use.
    """
    settings = workspace.settings
    port = _usable_port(settings.host, settings.port)
    os.environ.update(_ENVIRONMENT)
    import gradio as gr
    from starlette.middleware import Middleware

    from app.ui.connections import bound_connections
    from app.ui.events import Events
    from app.ui.page import build_page

    # uvicorn believes a proxy on this machine by default; here only those the settings name are believed
    os.environ["FORWARDED_ALLOW_IPS"] = ",".join(settings.trusted_proxies)
    people, identities = _people(workspace)
    head = page_head(
        workspace.model.name, is_demonstration=workspace.model.is_demonstration, users=people is not None
    )
    guard = Middleware(Guard, settings=settings, port=port, head=head, identities=identities)

    async def start() -> tuple[Any, str]:
        """Gradio opens event loops it never closes wherever none is running, so one runs while it starts."""
        page = build_page(Events(workspace))
        _, url, _ = page.launch(
            server_name=settings.host,
            server_port=port,
            auth_dependency=lambda request: request.scope.get(OWNER),
            app_kwargs={
                "routes": routes(workspace, people),
                "middleware": [guard],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
            theme=gr.themes.Base(
                font=["Noto Sans Arabic", "system-ui", "sans-serif"], font_mono=["monospace"]
            ),
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            show_error=False,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            root_path=settings.public_url.rstrip("/") or None,
            **_tls(settings),
        )
        return page, url

    page, url = asyncio.run(start())
    bound_connections(page.server.config)
    _without_other_origins(page.app)
    return page, url


def _without_other_origins(app: Any) -> None:
    """Take Gradio's own rule for other origins away: it stands in front of the guard and lets some in."""
    app.user_middleware = [one for one in app.user_middleware if "CORS" not in one.cls.__name__]
    app.middleware_stack = app.build_middleware_stack()


def _people(workspace: Workspace) -> tuple[People | None, Identities | None]:
    """Accounts, where several people use one installation; nothing of them is opened otherwise."""
    if workspace.settings.ownership != "users":
        return None, None
    from app.accounts.people import People
    from app.ui.identity import Accounts

    people = People.open(workspace.settings, workspace.history)
    return people, Accounts(workspace.settings, people.sign_ins)


def _tls(settings: Settings) -> dict[str, object]:
    if settings.tls_cert == Path():
        return {}
    # not verified: Gradio's own first look at itself, by an address the certificate need not name
    return {
        "ssl_certfile": str(settings.tls_cert),
        "ssl_keyfile": str(settings.tls_key),
        "ssl_verify": False,
    }


def routes(workspace: Workspace, people: People | None = None) -> list[Route | Mount]:
    """Routes of the application; the guard in front of them has put the owner into the scope.

    Parameters
    ----------
    people : People, optional
        Accounts, where there are any.
    """
    assets = Path(__file__).parent.parent / "assets"
    return [
        Route("/healthz", _health),
        *images.routes(workspace),
        *slides.routes(workspace),
        *studies.routes(workspace),
        *measure.routes(workspace),
        *history.routes(workspace),
        *prompts.routes(workspace),
        *answering.routes(workspace),
        *([*account.routes(people), *review.routes(workspace, people)] if people else []),
        *(Mount(f"/page/{name}", StaticFiles(directory=assets / name)) for name in _STATIC_FOLDERS),
    ]


async def _health(request: Request) -> Response:
    """Say that the server answers."""
    del request
    return PlainTextResponse("ok")


def _usable_port(host: str, port: int) -> int:
    """Find a free port for 0, and make sure any other is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTakenError(port=port) from error
        found: int = probe.getsockname()[1]
        return found
