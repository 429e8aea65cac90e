"""The command line: serve, ask, render, slide, studies, doctor, models, history, users, encryption.

Only what a command needs is imported when it runs, so that ``--help`` answers at once. Errors are shown
as one sentence in the user's language, with exit status 1; a wrong flag ends with 2.
"""

from __future__ import annotations

import argparse
import locale
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.deidentify_command import add_commands as add_deidentify_commands
from app.encryption_command import add_encryption_commands, unlock_by
from app.help_texts import language_asked, speaking, wrong_value
from app.history_command import add_history_commands
from app.models_command import add_models_command
from app.settings import Settings, load_settings
from app.slides_command import add_slide_command, slide_pixels, words_of_slide
from app.studies import add_commands as add_study_commands
from app.users_command import add_users_commands
from app.view_flags import add_measure_command, add_view_flags, opened_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["build_parser", "run"]

_LOG = logging.getLogger("bimedix2")


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    language = _environment_language()
    parser = build_parser()
    with speaking(parser, language_asked(arguments, language)):
        options = parser.parse_args(arguments)
    try:
        settings = load_settings(file=options.config, flags=_settings_flags(options))
        language = settings.language if settings.language != "auto" else language
        _configure_logging(options.log_level.upper())
        unlock_by(settings, language)
        status: int = options.command(settings, options, language)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output went away, e.g. "| head": nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  # edge: every failure becomes a sentence
        from app.errors import FileAccessError, user_text

        if isinstance(error, OSError) and error.filename is not None:
            error = FileAccessError(location=error.filename, reason=error.strerror)
        print(user_text(error, language), file=sys.stderr)
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="bimedix2",
        description="Talk about exactly what is on screen with a local BiMediX2, in Arabic or English. "
        "Research use only; not for clinical or commercial use.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    common.add_argument(
        "--data-folder", type=Path, metavar="FOLDER", help="where history and pixels are kept"
    )
    common.add_argument(
        "--key-file",
        dest="encryption_key_file",
        type=Path,
        metavar="FILE",
        help="key of an encrypted data folder, see encryption",
    )
    common.add_argument("--language", choices=("en", "ar"), help="language of messages")
    common.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", metavar="FOLDER|ID", help="checkpoint; the demonstration model if left out")
    model.add_argument("--device", help="auto, cpu, cuda, cuda:N, or split (all GPUs)")
    model.add_argument(
        "--adapter",
        dest="adapters",
        action="append",
        metavar="[NAME=]FOLDER",
        help="adapter (LoRA) the page offers; may be given several times",
    )
    model.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    view = argparse.ArgumentParser(add_help=False)
    add_view_flags(view)

    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", parents=[common, model], help="open the page")
    serve.add_argument("--host", help="address to listen on; 127.0.0.1 by default")
    serve.add_argument("--port", type=int, help="port; 7860 by default, 0 takes a free one")
    serve.add_argument(
        "--open-browser", action="store_true", default=None, help="open the page in the browser"
    )
    _add_several_users(serve)
    serve.set_defaults(command=_serve)
    ask = commands.add_parser(
        "ask", parents=[common, model, view], help="ask about one image, answer on the terminal"
    )
    ask.add_argument("image", type=Path, metavar="IMAGE")
    ask.add_argument("question", type=_question)
    ask.set_defaults(command=_ask)
    render = commands.add_parser(
        "render", parents=[common, view], help="write exactly the pixels the page shows"
    )
    render.add_argument("image", type=Path, metavar="FILE")
    render.add_argument("output", type=_png_name, metavar="OUT.png")
    render.add_argument(
        "--level", type=int, metavar="N", help="of a slide, from 0; what the model is shown by default"
    )
    render.set_defaults(command=_render)
    add_measure_command(commands, common, view)
    add_study_commands(commands, common)
    add_deidentify_commands(commands, common)
    add_slide_command(commands, common)
    doctor = commands.add_parser(
        "doctor", parents=[common, model], help="check this computer, and say what to do"
    )
    doctor.set_defaults(command=_doctor)
    add_models_command(commands, common)
    add_history_commands(commands, common)
    add_users_commands(commands, common)
    add_encryption_commands(commands, common)
    return parser


def _add_several_users(serve: argparse.ArgumentParser) -> None:
    """Add what an installation for several people needs."""
    several = serve.add_argument_group("several users")
    several.add_argument(
        "--users", dest="ownership", action="store_const", const="users",
        help="people sign in; make accounts with bimedix2 users",
    )  # fmt: skip
    several.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain (PEM): serve https")
    several.add_argument("--tls-key", type=Path, metavar="FILE", help="private key of the certificate (PEM)")
    several.add_argument(
        "--public-url", metavar="URL", help="address users type when a reverse proxy stands in front"
    )
    several.add_argument(
        "--trusted-proxy", dest="trusted_proxies", action="append", metavar="ADDRESS",
        help="proxy whose X-Forwarded-For is believed; may be given several times",
    )  # fmt: skip


def _settings_flags(options: argparse.Namespace) -> dict[str, Any]:
    names = (
        "data_folder",
        "encryption_key_file",
        "language",
        "model",
        "device",
        "adapters",
        "threads",
        "host",
        "port",
        "ownership",
        "tls_cert",
        "tls_key",
        "public_url",
        "trusted_proxies",
        "open_browser",
    )
    return {name: getattr(options, name, None) for name in names}


def _configure_logging(level: str) -> None:
    """Log as much as was asked of the application's own loggers.

    Libraries stay at warnings: at debug some write requests, rows or headers, and those hold names.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("bimedix2").setLevel(level)


def _question(text: str) -> str:
    if not text.strip():
        raise wrong_value("expected a question, found {found}", found=repr(text))
    return text


def _png_name(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise wrong_value("expected a name that ends in .png, found {found}", found=repr(text))
    return Path(text)


def _environment_language() -> str:
    """Language of the setting, as far as the environment has it, or of the terminal."""
    setting = os.environ.get("BIMEDIX2_LANGUAGE", "")
    if setting in {"en", "ar"}:
        return setting
    name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG")
    name = name or locale.getlocale()[0] or ""
    return "ar" if name.lower().startswith("ar") else "en"


def _serve(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from app.session import Workspace
    from app.web import serve
    from i18n.catalogue import Catalogue

    texts = Catalogue()
    workspace = Workspace.open(settings)

    def on_ready(url: str) -> None:
        model = workspace.model
        print(texts.text("cli.ready", language, url=url), flush=True)
        print(texts.text("cli.model_in_use", language, name=model.name, reason=model.reason), flush=True)
        print(texts.text("app.research_notice", language), flush=True)
        if settings.host not in ("127.0.0.1", "localhost", "::1"):
            print(texts.text("cli.listening_lan", language, url=url), flush=True)
        workspace.prepare_model(lambda reason, seconds: _tell_loaded(language, reason, seconds))
        if settings.open_browser:
            import webbrowser

            webbrowser.open(url)

    try:
        serve(workspace, on_ready=on_ready)
    finally:
        workspace.close()
        print(texts.text("cli.stopped", language, location=settings.folder), flush=True)
    return 0


def _tell_loaded(language: str, reason: str, seconds: float) -> None:
    from i18n.catalogue import Catalogue

    print(Catalogue().text("cli.model_loaded", language, seconds=f"{seconds:.1f}", name=reason), flush=True)


def _render(settings: Settings, options: argparse.Namespace, _language: str) -> int:
    from viewers.png import png
    from viewers.view import render_png

    pixels = slide_pixels(options)
    if pixels is not None:
        options.output.write_bytes(png(pixels))
        return 0
    with opened_view(settings, options) as (image, view):
        data = render_png(image, view)
    options.output.write_bytes(data)
    return 0


def _ask(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from dataclasses import replace

    from app.model import open_backend
    from engine.messages import ImagePart, Message
    from i18n.catalogue import Catalogue
    from viewers.view import render

    pixels, words = slide_pixels(options), ""
    if pixels is None:
        with opened_view(settings, options) as (image, view):
            pixels = render(image, view)
    else:
        words = words_of_slide(options, options.question)
    # one answer needs no second process
    backend, model = open_backend(replace(settings, model_process=False))
    backend.wait()
    if model.is_demonstration:
        print(Catalogue().text("app.demo_notice", language), file=sys.stderr)
    message = Message.of("user", ImagePart(pixels), words + options.question)
    try:
        for text in _answer_texts(backend, settings, message):
            print(text, end="", flush=True)
    finally:
        print(flush=True)
        backend.close()
    return 0


def _answer_texts(backend: Any, settings: Settings, message: Any) -> Iterator[str]:
    from engine.messages import Delta, GenerationOptions

    options = GenerationOptions(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        time_limit_s=settings.time_limit_s or None,
        first_token_limit_s=settings.first_token_limit_s or None,
    )
    for event in backend.stream([message], options):
        if isinstance(event, Delta):
            yield event.text


def _doctor(settings: Settings, _options: argparse.Namespace, language: str) -> int:
    from app.doctor import examine, report

    started = time.monotonic()
    findings = examine(settings)
    _LOG.info("examined in %.1f s", time.monotonic() - started)
    print(report(findings, language))
    return 1 if any(finding.level == "failed" for finding in findings) else 0
