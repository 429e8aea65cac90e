"""Kernels for a few rows: the same numbers, the same parameters, and nothing lost for training."""

from __future__ import annotations

import pytest

from engine.local import LocalBackend
from tests.engine.tiny import build_checkpoint


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 12, 13, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_those_of_torch(rows: int, *, bias: bool) -> None:
    """To float32's rounding, whatever the number of rows, in the shapes a batch or a prompt has."""
    import torch

    from engine.few_rows import FewRows

    torch.manual_seed(rows)
    layer = torch.nn.Linear(70, 33, bias=bias)
    ours = FewRows.over(layer)
    with torch.inference_mode():
        for given in (torch.randn(rows, 1, 70), torch.randn(1, rows, 70), torch.randn(70, rows).T):
            found = ours(given)
            torch.testing.assert_close(found, layer(given), atol=1e-5, rtol=1e-5)
            assert found.is_contiguous()


def test_parameters_are_shared_and_can_still_be_trained() -> None:
    """Outside of inference it is an ordinary linear layer: gradients flow, whatever the number of rows."""
    import torch

    from engine.few_rows import FewRows

    layer = torch.nn.Linear(8, 4)
    ours = FewRows.over(layer)
    ours(torch.ones(2, 8)).sum().backward()

    assert ours.weight is layer.weight
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, torch.full((4, 8), 2.0))


def test_layers_that_something_else_watches_are_left(tmp_path: object) -> None:
    """Accelerate fetches the weights of the very layers it was given; the vision tower is left as well."""
    import torch
    from accelerate import cpu_offload

    from engine.checkpoint import LoadOptions, load
    from engine.few_rows import FewRows

    options = LoadOptions(device="cpu", dtype="float32")
    loaded = load(build_checkpoint(tmp_path), options)  # type: ignore[arg-type]
    cpu_offload(loaded.model, torch.device("cpu"))
    LocalBackend(loaded)
    assert not any(isinstance(module, FewRows) for module in loaded.model.modules())

    again = load(tmp_path, options)  # type: ignore[arg-type]
    LocalBackend(again)
    ours = {name for name, module in again.model.named_modules() if isinstance(module, FewRows)}
    assert len(ours) == 2 * 7 + 1
    assert not any("vision" in name or "projector" in name for name in ours)
