"""Matrices times a few vectors on the CPU: the kernels that read the matrix from memory only once.

For one vector and for many, torch's own choice is right. For two to about a dozen, which is what answers
written at the same time make, its float32 product reads a matrix of a language model as slowly as if once
for each vector: two took 1.9 times as long as one on the machine where this was measured, here 1.0 times.
bfloat16 needs none of this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["FewRows", "use_few_rows"]

_FEW = 12


class FewRows(nn.Linear):
    """A linear layer over the same parameters as another; differs from it in rounding only."""

    @classmethod
    def over(cls, layer: nn.Linear) -> FewRows:
        """Share a layer's parameters."""
        ours = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        ours.weight, ours.bias = layer.weight, layer.bias
        return ours.train(layer.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name for it
        """Multiply; shape (..., in features) -> (..., out features)."""
        rows = input.numel() // self.in_features
        # outside of inference the chosen kernels could not be differentiated
        if 1 < rows <= _FEW and torch.is_inference_mode_enabled() and input.dtype == torch.float32:
            return _few(input.reshape(rows, -1), self.weight, self.bias).reshape(*input.shape[:-1], -1)
        return super().forward(input)


def _few(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if len(rows) <= 2:
        # the vectors transposed without being moved: two are taken along as fast as one
        product = torch.mm(weight, rows.contiguous().t()).t().contiguous()
        return product if bias is None else product + bias
    if _ONEDNN is not None:
        found: torch.Tensor = _ONEDNN(rows, weight, bias, "none", [], "")
        return found
    return nn.functional.linear(rows, weight, bias)


def _onednn() -> Any:
    """Find the product of the oneDNN library, under torch's private name; None where a build has none."""
    try:
        kernel = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
        ones = torch.ones(3, 4)
        works = torch.equal(kernel(ones, ones, None, "none", [], ""), torch.full((3, 3), 4.0))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return kernel if works else None


_ONEDNN = _onednn()


def use_few_rows(model: Any) -> None:
    """Let the language model's float32 layers on the CPU multiply a few rows by these kernels."""
    for name, layer in list(model.named_modules()):
        in_language = name.startswith("model.language_model.") or name == "lm_head"
        if in_language and type(layer) is nn.Linear and _suits(layer):
            model.set_submodule(name, FewRows.over(layer))


def _suits(layer: nn.Linear) -> bool:
    # weights that accelerate fetches when a layer is called belong to the very object it watches
    return (
        layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
        and not hasattr(layer, "_hf_hook")
    )
