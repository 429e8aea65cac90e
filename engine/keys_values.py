"""Keys and values of what a model has read, and attention over those of several conversations at once.

transformers' own cache joins all earlier keys to the new ones for every token, which copies the whole
conversation each time; here there is room behind them and the new ones are written into it. The model
itself is the stock one: :class:`Step` stands where its cache does, and :func:`attend` is registered beside
its own kinds of attention. Several conversations of different lengths go through the linear layers
together, so that the weights are read from memory once for all of them; each attends to its own keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["ATTENTION", "KeyValueState", "Step", "attend", "use_streams"]

ATTENTION = "streams"
"""Name under which :func:`attend` is registered with transformers."""
_BLOCK = 32
"""Room is made for a multiple of this many places."""


class KeyValueState:
    """Keys and values of one conversation, as :class:`engine.cache.PrefixCache` keeps them.

    Each layer holds two tensors of shape (1, heads, room, width), of which the first ``length`` places
    are read. A forward pass that fails in the middle leaves ``length``, and so the state, as it was.
    """

    def __init__(self) -> None:
        self.length = 0
        """Places read."""
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    @property
    def bytes(self) -> int:
        """Memory of all layers, in bytes, the room not used yet included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.keys, *self.values))

    def copy(self, length: int) -> KeyValueState:
        """Return an independent state of the first ``length`` places."""
        state = KeyValueState()
        state.length = length
        state.keys = [_with_room(tensor[:, :, :length], length) for tensor in self.keys]
        state.values = [_with_room(tensor[:, :, :length], length) for tensor in self.values]
        return state

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put keys and values of new places behind those read, shape (1, heads, places, width) each."""
        for tensors, new in ((self.keys, keys), (self.values, values)):
            end = self.length + new.shape[2]
            if layer == len(tensors):
                tensors.append(_with_room(new[:, :, :0], end))
            elif tensors[layer].shape[2] < end:
                tensors[layer] = _with_room(tensors[layer][:, :, : self.length], end)
            tensors[layer][:, :, self.length : end] = new


def _with_room(tensor: torch.Tensor, places: int) -> torch.Tensor:
    """Copy into a tensor with an eighth more room than ``places``, so that growing is rare and cheap."""
    room = -(-(places + places // 8) // _BLOCK) * _BLOCK
    one, heads, read, width = tensor.shape
    wider = tensor.new_empty(one, heads, room, width)
    wider[:, :, :read] = tensor
    return wider


class Step:
    """One forward pass over new places of several conversations, in the role of transformers' ``Cache``.

    Parameters
    ----------
    states : sequence of KeyValueState
        One for each row of the batch; no state twice.
    places : int
        New places in each of them.
    """

    def __init__(self, states: Sequence[KeyValueState], places: int) -> None:
        self._states = states
        self._places = places
        self._masks: dict[tuple[int, int | None], torch.Tensor] = {}

    def positions(self, device: torch.device) -> torch.Tensor:
        """Positions of the new places in their conversations, shape (conversations, places)."""
        import torch

        starts = torch.tensor([[state.length] for state in self._states], device=device)
        return starts + torch.arange(self._places, device=device)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Any, Any]:
        """Keep what a layer computed; what it gets back only :func:`attend` can read."""
        for row, state in enumerate(self._states):
            state.write(layer_idx, key_states[row : row + 1], value_states[row : row + 1])
        kept = _Kept(self, layer_idx)
        return kept, kept

    def get_seq_length(self, _layer_idx: int = 0) -> int:
        """Most places read in any of the conversations."""
        return max(state.length for state in self._states)

    def rows(self, layer: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each conversation, the new places included."""
        ends = [state.length + self._places for state in self._states]
        return [
            (state.keys[layer][:, :, :end], state.values[layer][:, :, :end])
            for state, end in zip(self._states, ends, strict=True)
        ]

    def mask(self, keys: torch.Tensor, window: int | None) -> torch.Tensor | None:
        """Mark what each new place may look at: what stands before it, up to a window.

        Returns
        -------
        tensor of bool, shape (places, keys), or None
            ``None`` where the plain triangle is meant: nothing was read before, and the window is wider.
        """
        import torch

        end = keys.shape[2]
        if end == self._places and (window is None or end <= window):
            return None
        if (end, window) not in self._masks:
            to = torch.arange(end, device=keys.device)
            of = to[end - self._places :, None]
            seen = to <= of
            self._masks[end, window] = seen if window is None else seen & (to > of - window)
        return self._masks[end, window].to(keys.device)

    def done(self) -> None:
        """Count the new places as read."""
        for state in self._states:
            state.length += self._places


class _Kept:
    """Where a layer's keys and values are found."""

    def __init__(self, step: Step, layer: int) -> None:
        self.step = step
        self.layer = layer


def use_streams(language_model: Any) -> None:
    """Let a language model of transformers attend by :func:`attend` from now on.

    With transformers' own caches it computes as before.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    language_model.set_attn_implementation(ATTENTION)


def attend(
    module: Any,
    query: torch.Tensor,
    key: Any,
    value: Any,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it, each conversation over its own keys.

    Parameters
    ----------
    module : torch.nn.Module
        The layer that asks.
    query : tensor, shape (conversations, heads, places, width)
    key, value
        What :meth:`Step.update` returned, or tensors, which transformers' own way takes over.
    attention_mask : tensor or None
        Used for tensors only; a step makes its own.
    scaling : float, optional
        Factor of the scores.
    sliding_window : int, optional
        How many places back a place may look, itself included.
    **more
        Anything else is for transformers' own way.

    Returns
    -------
    tuple of tensor, shape (conversations, places, heads, width), and None
    """
    import torch

    if not isinstance(key, _Kept):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        more |= {"scaling": scaling, "sliding_window": sliding_window}
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
        return output, None
    if more.get("softcap") is not None:
        raise NotImplementedError("attention with capped scores is not computed here")
    if query.shape[2] == 1:
        rows = [
            _one_place(query[row : row + 1], keys, values, scaling, sliding_window)
            for row, (keys, values) in enumerate(key.step.rows(key.layer))
        ]
    else:
        rows = [
            _many_places(query[row : row + 1], keys, values, scaling, key.step.mask(keys, sliding_window))
            for row, (keys, values) in enumerate(key.step.rows(key.layer))
        ]
    return (rows[0] if len(rows) == 1 else torch.cat(rows)), None


def _one_place(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """One token over all before it: no mask, and the heads that share keys go together as if places."""
    from torch.nn.functional import scaled_dot_product_attention

    if window is not None:
        keys, values = keys[:, :, -window:], values[:, :, -window:]
    _, heads, _, width = query.shape
    grouped = query.reshape(1, keys.shape[1], -1, width)
    found = scaled_dot_product_attention(grouped, keys, values, scale=scaling)
    return found.reshape(1, 1, heads, width)


def _many_places(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Several tokens, each over those before it; without a mask nothing stands before the first."""
    from torch.nn.functional import scaled_dot_product_attention

    shared = query.shape[1] // keys.shape[1]
    if shared > 1:
        keys, values = keys.repeat_interleave(shared, 1), values.repeat_interleave(shared, 1)
    found = scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling
    )
    return found.transpose(1, 2)
