"""A model ready to be asked: weights, renderer of prompts, image preparation, stop tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.adapters import Adapters

if TYPE_CHECKING:
    import torch

    from engine.messages import ImagePart
    from engine.prompt import PromptRenderer

__all__ = ["CroppingModel", "LoadedModel", "TilingModel"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with everything needed to ask it."""

    name: str
    """Folder name or Hub id."""
    model: Any
    """Of one of the classes in :mod:`engine.families`, or ``Phi3Vision``; in evaluation mode."""
    renderer: PromptRenderer
    image_processor: Any
    """``LlavaImageProcessorPil`` (pads to a square with the mean colour, resizes, normalises), or the
    family's."""
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

    def image_features(self, image: ImagePart, *, coarse: bool = False) -> torch.Tensor:  # noqa: ARG002  # tiles
        """Features of an image as the language model takes them, shape (image tokens, hidden size).

        ``coarse``: whole only, by models that else read it in tiles too; see
        :attr:`engine.layouts.ImageSlot.coarse`.
        """
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


class TilingModel(LoadedModel):
    """A LLaVA that reads the whole of an image and tiles of it (LLaVA-NeXT, LLaVA-OneVision)."""

    __slots__ = ()

    def image_features(self, image: ImagePart, *, coarse: bool = False) -> torch.Tensor:
        """Features of an image as the language model takes them, shape (image tokens, hidden size)."""
        batch = self._prepared(image, coarse=coarse)
        more = {"batch_num_images": batch["batch_num_images"]} if coarse else {}
        output = self.model.get_image_features(
            pixel_values=batch["pixel_values"].to(self.device, self.dtype),
            image_sizes=batch["image_sizes"],
            **more,
        )
        features: torch.Tensor = output.pooler_output[0]
        return features

    def pixel_values(self, image: ImagePart) -> torch.Tensor:
        """Prepare an image, shape (1, 1 + tiles, 3, side, side): the whole image, then its tiles."""
        values: torch.Tensor = self._prepared(image)["pixel_values"].to(self.device, self.dtype)
        return values

    def _prepared(self, image: ImagePart, *, coarse: bool = False) -> Any:
        from PIL import Image

        picture = Image.fromarray(image.pixels)
        # beside another one, the processor prepares an image whole; the other one is not computed
        batch = self.image_processor(images=[[picture, picture]] if coarse else picture, return_tensors="pt")
        if coarse:
            batch["pixel_values"] = batch["pixel_values"][:1]
            batch["image_sizes"] = batch["image_sizes"][:1]
        return batch


class CroppingModel(LoadedModel):
    """A model that reads several squares of an image; ``image_processor`` is a ``CropSettings``."""

    __slots__ = ()

    def image_features(self, image: ImagePart, *, coarse: bool = False) -> torch.Tensor:  # noqa: ARG002  # tiles
        """Features of an image as the language model takes them, shape (image tokens, hidden size).

        ``coarse``: whole only, by models that else read it in tiles too; see
        :attr:`engine.layouts.ImageSlot.coarse`.
        """
        from engine.crops import cut

        inputs, grid = cut(image.pixels, self.image_processor)
        features: torch.Tensor = self.model.image_features(inputs.to(self.device, self.dtype), grid)
        return features

    def pixel_values(self, image: ImagePart) -> torch.Tensor:
        """Prepare an image, shape (1 + squares, 3, side, side): the whole image, then its squares."""
        from engine.crops import cut

        return cut(image.pixels, self.image_processor)[0].to(self.device, self.dtype)
