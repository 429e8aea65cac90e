"""Linear layers in int8 on the CPU: a quarter of the memory of float32, and several times its speed.

Weights are rounded once, with a scale for each output; the vectors that come in are rounded as they come,
with a scale for each. So what a token gives does not depend on the tokens computed beside it: neither on
how a prompt was cut into chunks, nor on other answers that are written at the same time. (torch's own
dynamic quantisation takes one scale for all vectors of a call and one for the whole matrix; it is coarser,
and two answers computed together would change each other.)

References
----------
Scales for each vector and each output: LLM.int8(), arXiv 2208.07339, section 2.1.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Int8Linear"]

_LEVELS = 127
_TINY = 1e-30
_CLOSE = 0.1


class Int8Linear(nn.Module):
    """A linear layer with int8 weights.

    Parameters
    ----------
    layer : torch.nn.Linear
        Whose weights are rounded, in whatever precision they are; it is not changed.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        bias = None if layer.bias is None else layer.bias.detach().float()
        self._packed = _packed(layer.weight.detach().float())
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name for it
        """Multiply; shape (..., in features) -> (..., out features), float32."""
        rows = input.reshape(-1, self.in_features)
        largest = rows.abs().amax(-1, keepdim=True).clamp_(min=_TINY)
        found = self._multiplied(rows / largest).mul_(largest)
        if self.bias is not None:
            found += self.bias
        return found.reshape(*input.shape[:-1], self.out_features)

    def _multiplied(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply vectors whose largest element is 1."""
        levels = _levels()
        ops: Any = torch.ops.quantized
        if levels is None:
            # builds for other processors: a scale for all vectors of the call, which are alike by now
            other: torch.Tensor = ops.linear_dynamic(rows, self._packed, True)  # noqa: FBT003  # takes no name
            return other
        found: torch.Tensor = ops.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows, 1 / levels, levels + 1, self._packed
        )
        return found


def _packed(weight: torch.Tensor) -> Any:
    scales = (weight.abs().amax(1) / _LEVELS).clamp(min=_TINY).double()
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    with _packing(), warnings.catch_warnings():
        # torch announces that tensors of this kind will go in favour of the package torchao, whose int8
        # is slower than float32 on a CPU; nothing a user could do
        warnings.simplefilter("ignore")
        rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(rounded, None)


@contextmanager
def _packing() -> Iterator[None]:
    """Choose the library that takes a scale from outside, where this build of torch has it."""
    before = torch.backends.quantized.engine
    if "fbgemm" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@cache
def _levels() -> int | None:
    """Tell to how many steps between 0 and 1 vectors are rounded; ``None`` where no scale can be given.

    Processors without instructions made for it add pairs of products in 16 bits: eight bits a side would
    overflow there, seven do not. Whether they do is tried.
    """
    packed = _packed(torch.ones(1, 64))
    for levels in (_LEVELS, _LEVELS // 2):
        try:
            sum_of_ones = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
                torch.ones(1, 64), 1 / levels, levels + 1, packed
            )
        except (AttributeError, RuntimeError):
            return None
        if abs(float(sum_of_ones) - 64) < _CLOSE:
            return levels
    return None
