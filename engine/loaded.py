"""A model ready to be asked: weights, renderer of prompts, image preparation, stop tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.adapters import Adapters

if TYPE_CHECKING:
    import torch

    from engine.messages import ImagePart
    from engine.prompt import PromptRenderer

__all__ = ["CroppingModel", "LoadedModel"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with everything needed to ask it."""

    name: str
    """Folder name or Hub id."""
    model: Any
    """``transformers.LlavaForConditionalGeneration``, in evaluation mode."""
    renderer: PromptRenderer
    image_processor: Any
    """``LlavaImageProcessorPil``: pads to a square with the mean colour, resizes, normalises."""
    tokenizer: Any
    """``tokenizers.Tokenizer``."""
    stop_ids: frozenset[int]
    suppressed_ids: tuple[int, ...]
    """Never sampled: the image token and unused reserved ones."""
    device: torch.device
    dtype: torch.dtype
    reason: str
    """Why this device and precision, in one English sentence."""
    adapters: Adapters = field(init=False)
    """Adapters attached to the model, none at first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "adapters", Adapters(self.model, self.name))

    @property
    def cache_key(self) -> str:
        """Identity of the weights that compute now, the active adapter's included."""
        return self.adapters.key(self.adapters.active)

    def image_features(self, image: ImagePart) -> torch.Tensor:
        """Features of an image as the language model takes them, shape (image tokens, hidden size)."""
        output = self.model.get_image_features(pixel_values=self.pixel_values(image))
        features: torch.Tensor = output.pooler_output[0]
        return features

    def pixel_values(self, image: ImagePart) -> torch.Tensor:
        """Prepare an image for the vision tower.

        Returns
        -------
        tensor, shape (1, 3, height, width)
            Padded to a square, resized bicubically, normalised, on the model's device in its dtype.
        """
        from PIL import Image

        batch = self.image_processor(images=Image.fromarray(image.pixels), return_tensors="pt")
        values: torch.Tensor = batch["pixel_values"].to(self.device, self.dtype)
        return values


class CroppingModel(LoadedModel):
    """A model that reads several squares of an image; ``image_processor`` is a ``CropSettings``."""

    __slots__ = ()

    def image_features(self, image: ImagePart) -> torch.Tensor:
        """Features of an image as the language model takes them, shape (image tokens, hidden size)."""
        from engine.crops import cut

        inputs, grid = cut(image.pixels, self.image_processor)
        features: torch.Tensor = self.model.image_features(inputs.to(self.device, self.dtype), grid)
        return features

    def pixel_values(self, image: ImagePart) -> torch.Tensor:
        """Prepare an image, shape (1 + squares, 3, side, side): the whole image, then its squares."""
        from engine.crops import cut

        return cut(image.pixels, self.image_processor)[0].to(self.device, self.dtype)
