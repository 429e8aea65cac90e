"""Errors of the engine: what was found, what was expected, what to do next.

The tree::

    EngineError                    everything below; carries a catalogue key and named values
    ├── CheckpointError            a model folder that cannot be opened
    │   ├── CheckpointNotFoundError
    │   ├── UnsupportedCheckpointError
    │   ├── CheckpointKeysError
    │   ├── MissingTokenizerError
    │   ├── DestinationExistsError
    │   ├── DiskSpaceError
    │   ├── DownloadError
    │   ├── DamagedCheckpointError
    │   ├── QuantisationError
    │   ├── NotEnoughMemoryError
    │   │   └── NothingFitsError
    │   └── AdapterError
    │       ├── AdapterBaseError
    │       ├── AdapterBaseMissingError
    │       └── AdapterUnknownError
    ├── PromptError                a conversation that cannot be given to the model
    │   ├── PromptTooLongError
    │   └── ConversationShapeError
    ├── ImageInputError            pixels of a shape or type no vision tower takes
    ├── AnswerFailedError          one answer failed in a way nobody foresaw; the next may succeed
    └── BackendUnavailableError    the backend cannot work now (closed, out of memory)
        ├── ProcessError           the process the model runs in
        │   ├── ProcessCrashedError
        │   ├── ProcessHungError
        │   └── ProcessGivenUpError
        └── ServerError            the server the model runs on
            ├── ServerAddressError
            ├── ServerUnreachableError
            ├── ServerRefusedError
            ├── ServerModelError
            ├── ServerBusyError
            ├── ServerFailedError
            ├── ServerAnswerError
            └── ServerSilentError

``str(error)`` is an English sentence. ``error.key`` and ``error.values`` let the application show the
same sentence from its catalogue in the user's language; a test holds the two texts equal.
Mistakes of the programmer (an unknown backend's name, a negative option) are ``ValueError`` and
``TypeError``, never an ``EngineError``.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AdapterBaseError",
    "AdapterBaseMissingError",
    "AdapterError",
    "AdapterUnknownError",
    "AnswerFailedError",
    "BackendUnavailableError",
    "CheckpointError",
    "CheckpointKeysError",
    "CheckpointNotFoundError",
    "ConversationShapeError",
    "DamagedCheckpointError",
    "DestinationExistsError",
    "DiskSpaceError",
    "DownloadError",
    "EngineError",
    "ImageInputError",
    "MissingTokenizerError",
    "NotEnoughMemoryError",
    "NothingFitsError",
    "ProcessCrashedError",
    "ProcessError",
    "ProcessGivenUpError",
    "ProcessHungError",
    "PromptError",
    "PromptTooLongError",
    "QuantisationError",
    "ServerAddressError",
    "ServerAnswerError",
    "ServerBusyError",
    "ServerError",
    "ServerFailedError",
    "ServerModelError",
    "ServerRefusedError",
    "ServerSilentError",
    "ServerUnreachableError",
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

    def __reduce__(self) -> tuple[Any, ...]:
        # named values are the constructor's arguments, so that an error can cross to another process
        return _rebuilt, (type(self), self.values)


def _rebuilt(kind: type[EngineError], values: dict[str, object]) -> EngineError:
    return kind(**values)


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


class DestinationExistsError(CheckpointError):
    """Something stands where a checkpoint was to be written; nothing is ever overwritten."""

    key = "engine.destination_exists"
    template = "Nothing was written: {location} exists already. Give a folder that does not exist yet."


class DiskSpaceError(CheckpointError):
    """The disk has not enough room for a checkpoint."""

    key = "engine.disk_space"
    template = (
        "There is not enough room on the disk at {location}: {needed} are needed, {found} are free. "
        "Free some room, or choose another disk."
    )


class DownloadError(CheckpointError):
    """A checkpoint did not arrive."""

    key = "engine.download"
    template = (
        "The checkpoint {source} could not be downloaded: {reason}. What has arrived is kept; "
        "the same command goes on from there."
    )


class DamagedCheckpointError(CheckpointError):
    """Files of a checkpoint are not what they should be."""

    key = "engine.checkpoint_damaged"
    template = "The checkpoint at {source} is damaged: {names}. Delete these files and download it again."


class QuantisationError(CheckpointError):
    """A precision that cannot be used here."""

    key = "engine.quantisation"
    template = "The precision {found} cannot be used: {reason}."


class NotEnoughMemoryError(CheckpointError):
    """The model would not fit; found out before loading."""

    key = "engine.not_enough_memory"
    template = (
        "The model at {source} needs about {needed} of {place}, and {found} are free. "
        "These would fit: {fitting}."
    )


class NothingFitsError(NotEnoughMemoryError):
    """No precision of the model would fit."""

    key = "engine.nothing_fits"
    template = (
        "The model at {source} needs about {needed} of {place}, and {found} are free; no precision of it "
        "fits. Close other programs, choose a smaller model, or use a model on a server."
    )


class AdapterError(CheckpointError):
    """An adapter (LoRA) that cannot be attached."""

    key = "engine.adapter"
    template = "The adapter at {source} cannot be attached: {reason}."


class AdapterBaseError(AdapterError):
    """An adapter made for another model."""

    key = "engine.adapter_base"
    template = (
        "The adapter at {source} was made for {expected}, and the model loaded is {found}. "
        "Load that model, or choose another adapter."
    )


class AdapterBaseMissingError(AdapterError):
    """The model an adapter was made for is not on this computer."""

    key = "engine.adapter_base_missing"
    template = (
        "The adapter at {source} needs the model {base}, which is not on this computer. "
        "Download that model first."
    )


class AdapterUnknownError(AdapterError):
    """An adapter was asked for that is not attached."""

    key = "engine.adapter_unknown"
    template = (
        "The model has no adapter called {found}; it has: {expected}. "
        "Choose one of them, or add its folder to the settings."
    )


class PromptError(EngineError):
    """A conversation that cannot be given to the model."""

    key = "engine.prompt"
    template = "The conversation cannot be given to the model: {reason}."


class PromptTooLongError(PromptError):
    """The prompt and the room for an answer exceed the model's context; raised before any computing."""

    key = "engine.prompt_too_long"
    template = (
        "The conversation is too long for this model: its length is {found}, and at most {limit} fits. "
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


class AnswerFailedError(EngineError):
    """One answer failed in a way nobody foresaw; the log has the traceback."""

    key = "engine.answer_failed"
    template = (
        "The model failed while answering: {reason}. "
        "Ask again; if it happens again, begin a new conversation."
    )


class ProcessError(BackendUnavailableError):
    """The process the model runs in."""

    key = "engine.process"
    template = "The model's process cannot work: {reason}."


class ProcessCrashedError(ProcessError):
    """It ended by itself or was ended from outside, e.g. by the system for want of memory."""

    key = "engine.process_crashed"
    template = (
        "The model's process ended while it was needed ({how}); it is being started again. "
        "Ask again in a moment. If it ended with SIGKILL, memory has probably run out: "
        "close other programs, or choose a smaller model."
    )


class ProcessHungError(ProcessError):
    """It gave no sign of life, or computed without any progress, for longer than allowed."""

    key = "engine.process_hung"
    template = (
        "The model did not move for {seconds} seconds and was stopped; it is being started again. "
        "Ask again in a moment."
    )


class ProcessGivenUpError(ProcessError):
    """It ended so often in a row that it is left alone for a while."""

    key = "engine.process_given_up"
    template = (
        "The model's process ended {count} times in a row, the last time with {how}, "
        "and is left alone for a while. Free memory or choose a smaller model; a question some minutes later "
        "starts it again."
    )


class ServerError(BackendUnavailableError):
    """The server the model runs on."""

    key = "engine.server"
    template = "The model's server {server} cannot work: {reason}."


class ServerAddressError(ServerError):
    """An address that is not used: unsafe, or none at all."""

    key = "engine.server_address"
    template = "The address {server} of the model's server is not used: found {found}, expected {expected}."


class ServerUnreachableError(ServerError):
    """No connection."""

    key = "engine.server_unreachable"
    template = (
        "The model's server {server} cannot be reached: {reason}. "
        "Check that it runs and that the address is right."
    )


class ServerRefusedError(ServerError):
    """The key is missing, wrong, or not allowed to use the model."""

    key = "engine.server_refused"
    template = (
        "The model's server {server} refused the access key (HTTP {status}). Check the key in the settings."
    )


class ServerModelError(ServerError):
    """The server does not have the model."""

    key = "engine.server_model"
    template = (
        "The server {server} has no model called {found}; it has: {expected}. "
        "Choose one of them in the settings."
    )


class ServerBusyError(ServerError):
    """Too many requests."""

    key = "engine.server_busy"
    template = "The model's server {server} is busy. Ask again in {seconds} seconds."


class ServerFailedError(ServerError):
    """The server reported a failure of its own, or refused the request."""

    key = "engine.server_failed"
    template = (
        "The model's server {server} failed (HTTP {status}): {reason}. "
        "Ask again; if it happens again, look into the server's log."
    )


class ServerAnswerError(ServerError):
    """What came is not an answer as OpenAI-compatible servers give it."""

    key = "engine.server_answer"
    template = (
        "The model's server {server} answered in a way that cannot be understood: found {found}, "
        "expected {expected}. Check that the address leads to an OpenAI-compatible server."
    )


class ServerSilentError(ServerError):
    """Nothing came for longer than allowed."""

    key = "engine.server_silent"
    template = (
        "The model's server {server} said nothing for {seconds} seconds. "
        "Ask again; if the server is slow, raise the limit in the settings."
    )
