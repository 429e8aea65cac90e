"""Errors of the engine: what was found, what was expected, what to do next.

The tree::

    EngineError                    everything below; carries a catalogue key and named values
    ├── CheckpointError            a model folder that cannot be opened
    │   ├── CheckpointNotFoundError
    │   ├── UnsupportedCheckpointError
    │   ├── CheckpointKeysError
    │   └── MissingTokenizerError
    ├── PromptError                a conversation that cannot be given to the model
    │   ├── PromptTooLongError
    │   └── ConversationShapeError
    ├── ImageInputError            pixels of a shape or type no vision tower takes
    └── BackendUnavailableError    the backend cannot work now (closed, out of memory)

``str(error)`` is an English sentence. ``error.key`` and ``error.values`` let the application show the
same sentence from its catalogue in the user's language; a test holds the two texts equal.
Mistakes of the programmer (an unknown backend's name, a negative option) are ``ValueError`` and
``TypeError``, never an ``EngineError``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BackendUnavailableError",
    "CheckpointError",
    "CheckpointKeysError",
    "CheckpointNotFoundError",
    "ConversationShapeError",
    "EngineError",
    "ImageInputError",
    "MissingTokenizerError",
    "PromptError",
    "PromptTooLongError",
    "UnsupportedCheckpointError",
]


class EngineError(Exception):
    """Base of everything the engine reports to a user.

    Parameters
    ----------
    **values : object
        Values named in ``template``.
    """

    key: ClassVar[str] = "engine.error"
    template: ClassVar[str] = "The model could not work: {reason}."

    def __init__(self, **values: object) -> None:
        self.values = values
        super().__init__(self.template.format(**values))


class CheckpointError(EngineError):
    """A model folder that cannot be opened."""

    key = "engine.checkpoint"
    template = "The model at {source} cannot be opened: {reason}."


class CheckpointNotFoundError(CheckpointError):
    """Neither a folder with ``config.json`` nor a checkpoint already downloaded."""

    key = "engine.checkpoint_not_found"
    template = (
        "No model was found at {source}: expected a folder that holds config.json. "
        "Give the folder of a checkpoint, or leave the setting empty for the demonstration model."
    )


class UnsupportedCheckpointError(CheckpointError):
    """``config.json`` names a structure this engine does not compute."""

    key = "engine.checkpoint_unsupported"
    template = (
        "The model at {source} is of a kind that is not supported: found {found}, expected {expected}. "
        "Choose another checkpoint."
    )


class CheckpointKeysError(CheckpointError):
    """Weights and structure disagree: missing, unexpected or mismatched tensors."""

    key = "engine.checkpoint_keys"
    template = (
        "The weights at {source} do not fit their config.json: {missing} missing, {unexpected} unexpected, "
        "{mismatched} of another shape ({names}). Download the checkpoint again."
    )


class MissingTokenizerError(CheckpointError):
    """The folder has no tokenizer, or its tokenizer lacks a token the prompt needs."""

    key = "engine.tokenizer_missing"
    template = (
        "The model at {source} has no usable tokenizer: {reason}. "
        "Put the checkpoint's tokenizer.json into that folder."
    )


class PromptError(EngineError):
    """A conversation that cannot be given to the model."""

    key = "engine.prompt"
    template = "The conversation cannot be given to the model: {reason}."


class PromptTooLongError(PromptError):
    """The prompt and the room for an answer exceed the model's context; raised before any computing."""

    key = "engine.prompt_too_long"
    template = (
        "The conversation is too long for this model: {found} tokens, and at most {limit} fit. "
        "Shorten the question, or begin a new conversation about the image."
    )


class ConversationShapeError(PromptError):
    """Messages in an order the chat template has no place for."""

    key = "engine.conversation_shape"
    template = "The conversation has an order the model does not know: found {found}, expected {expected}."


class ImageInputError(EngineError):
    """Pixels of a shape or type no vision tower takes."""

    key = "engine.image_input"
    template = (
        "The image cannot be given to the model: found {found}, expected an array of "
        "rows x columns x 3 in uint8. Render it first."
    )


class BackendUnavailableError(EngineError):
    """The backend cannot work now: closed, crashed or out of memory."""

    key = "engine.backend_unavailable"
    template = "The model is not available: {reason}. Your question is kept; ask again in a moment."
