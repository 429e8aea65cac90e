"""A folder's own tokenizer and chat template, as transformers' processors read them.

Out: a tokenizer of the ``tokenizers`` library, the template's text, and the tokens it may name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.errors import CheckpointError, MissingTokenizerError, UnsupportedCheckpointError
from engine.template import CHAT_LAYOUTS, NAMED_LAYOUTS, ChatTemplate

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["chosen_template", "own_tokenizer", "read_settings", "template_names"]

_SETTINGS = "tokenizer_config.json"
_CHATML = ("<|im_start|>", "<|im_end|>")


def own_tokenizer(folder: Path) -> Any:
    """Read a tokenizer the way its class says, e.g. Llama 2's, whose file alone does not say everything.

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    MissingTokenizerError
        If there is none, or it cannot be read.
    """
    from engine.checkpoint import load_tokenizer

    file = load_tokenizer(folder)
    if not read_settings(folder, _SETTINGS).get("tokenizer_class"):
        return file
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        backend: Any = made.backend_tokenizer
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        reason = f"{_SETTINGS} asks for a tokenizer that cannot be made: {_line(error)}"
        raise MissingTokenizerError(source=folder, reason=reason) from error
    return backend


def template_names(folder: Path) -> dict[str, str]:
    """Tokens a template may name: ``bos_token``, ``eos_token`` and so on."""
    found: dict[str, str] = {}
    for file in ("special_tokens_map.json", _SETTINGS):
        for name, value in read_settings(folder, file).items():
            content = value.get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(content, str):
                found[name] = content
    return found


def chosen_template(folder: Path, layout: str, image_token: str, tokenizer: Any) -> ChatTemplate | None:
    """Choose the template a folder's conversations are written with.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    layout : str
        ``auto`` takes the folder's own; a name of :data:`engine.template.NAMED_LAYOUTS` that layout.
    image_token : str
        What stands for an image.
    tokenizer : tokenizers.Tokenizer
        Whose control tokens may tell ChatML where the folder says nothing.

    Returns
    -------
    ChatTemplate or None
        ``None`` if the folder has none and its tokenizer does not tell either.

    Raises
    ------
    UnsupportedCheckpointError
        If the template cannot be used, or the layout is not known.
    """
    names = template_names(folder)
    if layout != "auto":
        if layout not in NAMED_LAYOUTS:
            expected = " or ".join(CHAT_LAYOUTS)
            raise UnsupportedCheckpointError(
                source=folder, found=f"the chat layout {layout!r}", expected=expected
            )
        return ChatTemplate(NAMED_LAYOUTS[layout], image_token, _with_ends(names), folder)
    text = _own_text(folder)
    if text is not None:
        return ChatTemplate(text, image_token, names, folder)
    if all(tokenizer.token_to_id(name) is not None for name in _CHATML):
        return ChatTemplate(NAMED_LAYOUTS["chatml"], image_token, names, folder)
    return None


def _with_ends(names: dict[str, str]) -> dict[str, str]:
    return {"bos_token": "<s>", "eos_token": "</s>"} | names


def _own_text(folder: Path) -> str | None:
    """Text of the folder's template, from wherever a release of transformers put it."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(source=folder, reason=f"{file.name} cannot be read: {error}") from error
    for name in ("chat_template.json", "processor_config.json", _SETTINGS):
        found = read_settings(folder, name).get("chat_template")
        if isinstance(found, list):  # several, by name
            by_name = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
            found = by_name.get("default")
        if isinstance(found, str):
            return found
    return None


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """Read a file of settings; one that is not there has none.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(source=folder, reason=f"{name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(source=folder, reason=f"{name} holds no settings")
    return content


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
