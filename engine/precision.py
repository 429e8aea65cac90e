"""Where to compute and in which numbers: device, precision, and quantisation, each with its reason."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import CheckpointError, QuantisationError

if TYPE_CHECKING:
    import torch

__all__ = [
    "QUANTISATIONS",
    "Quantisation",
    "bitsandbytes_config",
    "check_quantisation",
    "choose_device",
    "choose_dtype",
    "quantise_on_cpu",
]

Quantisation = Literal["none", "int8", "int4", "cpu-int8"]
"""``int8`` and ``int4``: bitsandbytes, made for CUDA. ``cpu-int8``: torch's own, on the CPU."""
QUANTISATIONS: tuple[Quantisation, ...] = ("none", "int8", "int4", "cpu-int8")
DTYPES = ("float32", "bfloat16", "float16")
_KEPT_WHOLE = ("model.vision_tower", "model.multi_modal_projector", "lm_head")
"""Small parts, or the ones that suffer most from rounding."""


def choose_device(wish: str = "auto") -> tuple[torch.device, str]:
    """Choose where to compute, and say why.

    Parameters
    ----------
    wish : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N``, or ``split`` (every GPU, the rest in main memory), for
        which the first GPU is returned: there the tokens go in.

    Raises
    ------
    CheckpointError
        If the device is not known, or CUDA was asked for and is not there.
    """
    import torch

    if wish == "split":
        count = torch.cuda.device_count()
        first = torch.device("cuda:0" if count else "cpu")
        return first, f"spread over {count} GPUs and main memory"
    if wish == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"{torch.cuda.get_device_name(0)} found"
        return torch.device("cpu"), "no GPU found: computing on the CPU"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", wish):
        reason = f"the device {wish!r} is not known; choose auto, cpu, cuda, cuda:N or split"
        raise CheckpointError(source=wish, reason=reason)
    device = torch.device(wish)
    if device.type == "cuda" and not torch.cuda.is_available():
        reason = f"the device {wish} was asked for, but torch finds no CUDA; choose auto or cpu"
        raise CheckpointError(source=wish, reason=reason)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        reason = f"the device {wish} was asked for, and there are {torch.cuda.device_count()}, counted from 0"
        raise CheckpointError(source=wish, reason=reason)
    return device, f"{wish} was asked for"


def choose_dtype(wish: str, device: torch.device) -> tuple[torch.dtype, str]:
    """Choose the precision, and say why.

    Notes
    -----
    A CPU without bfloat16 instructions multiplies bfloat16 matrices several times slower than float32
    ones, so float32 is the choice there although it takes twice the memory.
    """
    import torch

    if wish != "auto":
        if wish not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, found {wish!r}")
        return getattr(torch, wish), f"{wish} was asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "bfloat16, which the GPU computes natively"
        return torch.float16, "float16, because the GPU has no bfloat16"
    if _cpu_has_bfloat16():
        return torch.bfloat16, "bfloat16, which this CPU computes natively"
    return torch.float32, "float32, because this CPU has no bfloat16 instructions"


def _cpu_has_bfloat16() -> bool:
    import torch

    # private names: where a torch release lacks them, float32 is the safe answer
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        probe = getattr(torch.cpu, name, None)
        if probe is not None and probe():
            return True
    return False


def check_quantisation(quantisation: str, device: torch.device) -> None:
    """Refuse a quantisation that cannot work here, before anything is read.

    Raises
    ------
    QuantisationError
        If it is unknown, its library is missing, or it is for another kind of device.
    """
    import torch

    if quantisation not in QUANTISATIONS:
        reason = f"expected {', '.join(QUANTISATIONS)}"
        raise QuantisationError(found=quantisation, reason=reason)
    if quantisation in ("int8", "int4") and importlib.util.find_spec("bitsandbytes") is None:
        reason = (
            'the package bitsandbytes is missing; install it with pip install "bimedix2-workstation[quant]"'
        )
        raise QuantisationError(found=quantisation, reason=reason)
    if quantisation != "cpu-int8":
        return
    if device.type != "cpu":
        raise QuantisationError(found=quantisation, reason=f"it computes on the CPU only, not on {device}")
    if torch.backends.quantized.engine == "none":
        raise QuantisationError(found=quantisation, reason="this build of torch has no int8 on this CPU")


def bitsandbytes_config(quantisation: str, dtype: torch.dtype) -> Any:
    """Make settings for transformers' bitsandbytes loader; tower, projector and output layer stay whole."""
    from transformers import BitsAndBytesConfig

    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(_KEPT_WHOLE))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(_KEPT_WHOLE),
    )


def quantise_on_cpu(model: Any) -> None:
    """Change the language model's linear layers and the output layer to int8, in place.

    Weights become int8 with one scale an output, see :mod:`engine.int8`. Everything else becomes float32.
    One layer is enlarged to float32 at a time, so that a model read in bfloat16 never stands in memory in
    float32.
    """
    import torch

    from engine.int8 import Int8Linear

    for name, layer in list(model.named_modules()):
        in_language = name.startswith("model.language_model.") or name == "lm_head"
        if in_language and isinstance(layer, torch.nn.Linear):
            model.set_submodule(name, Int8Linear(layer))
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
