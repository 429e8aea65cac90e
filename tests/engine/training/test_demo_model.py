"""A whole training in miniature, and the folder it leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.checkpoint import LoadOptions, load
from engine.local import LocalBackend
from engine.messages import Delta, GenerationOptions, ImagePart, Message
from engine.training.demo_model import PHASES, Workshop, resume, train
from engine.training.export import classic_name, export_model
from engine.training.recipe import LORA_TARGETS, align_projector, fine_tune, plain_sample
from engine.training.vocabulary import CONTROL_TOKENS, IMAGE, train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path


def _copy(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _changed(before: dict[str, torch.Tensor], model: Any) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}


def test_all_phases_lower_the_loss_and_leave_an_openable_folder(tmp_path: Path) -> None:
    """Thirty seconds through every phase; then the product opens the folder strictly and it answers."""
    torch.set_num_threads(1)
    shop = Workshop(seed=2, tiny=True, batch=3, vision_batch=8, background=False)
    figures = train(shop, {"vision": 0.12, "language": 0.3, "align": 0.04, "tune": 0.06}, tmp_path / "run")
    assert set(figures) == set(PHASES)
    assert figures["vision"]["loss"] < figures["vision"]["first_loss"]
    assert figures["language"]["loss"] < 0.8 * figures["language"]["first_loss"]
    assert np.isfinite([figures[phase]["loss"] for phase in PHASES]).all()

    export_model(shop.model.state_dict(), shop.model.config, shop.tokenizer, tmp_path / "out")
    loaded = load(tmp_path / "out", LoadOptions(device="cpu", dtype="float32"))
    image = ImagePart(np.zeros((30, 50, 3), dtype=np.uint8))
    events = list(
        LocalBackend(loaded).stream(
            [Message.of("user", image, "Which side?")], GenerationOptions(max_new_tokens=4)
        )
    )
    assert any(isinstance(event, Delta) for event in events)

    again = Workshop(seed=9, tiny=True, tokenizer=shop.tokenizer)
    assert resume(again, tmp_path / "run") == ()
    for name, value in shop.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_stage_1_moves_only_the_projector(shop: Workshop) -> None:
    """Everything but the projector's four tensors stays as it was."""
    before = _copy(shop.model)
    pictures = shop.pictures(7, 2)
    align_projector(shop.model, lambda: shop.caption_loss(pictures), 0.02, report=lambda _: None)
    changed = _changed(before, shop.model)
    assert changed
    assert all(".multi_modal_projector." in name for name in changed)


def test_stage_2_never_touches_the_vision_tower(shop: Workshop) -> None:
    """The merged adapter changes the language model and the projector; the names stay those of the model."""
    from engine.training.language import Mixture

    before = _copy(shop.model)
    pictures = shop.pictures(8, 2)
    small = Mixture(length=320, turns=2)
    fine_tune(
        shop.model, lambda: shop.conversation_loss(pictures, small), 0.05, rate=1e-2, report=lambda _: None
    )
    assert set(shop.model.state_dict()) == set(before)
    changed = _changed(before, shop.model)
    assert any(".language_model.layers." in name for name in changed)
    assert not any("vision_tower" in name or "embed_tokens" in name for name in changed)


def test_lora_targets_are_the_language_models(shop: Workshop) -> None:
    """Seven matrices per layer, none of the vision tower's."""
    import re

    hit = [name for name, _ in shop.model.named_modules() if re.fullmatch(LORA_TARGETS, name)]
    assert len(hit) == 7 * shop.model.config.text_config.num_hidden_layers
    assert not any("vision" in name for name in hit)


def test_plain_sample_learns_only_the_caption(shop: Workshop) -> None:
    """Stage 1's form: no roles, the image, then the caption and its end."""
    sample = plain_sample(shop.renderer, "x", "This is a chest radiograph.")
    learned = [token for token, wanted in zip(sample.ids, sample.loss_mask, strict=True) if wanted]
    assert shop.renderer.decode(learned) == "This is a chest radiograph."
    assert learned[-1] == shop.renderer.end_of_turn
    assert sample.image_slots[0].length == shop.renderer.profile.image_length


def test_tokenizer_is_reproducible_and_round_trips_any_text() -> None:
    """The same merges every time; Arabic with diacritics and unknown scripts come back unchanged."""
    first, second = train_tokenizer(), train_tokenizer()
    assert first.to_str() == second.to_str()
    assert first.get_vocab_size() <= 2304
    for text in ("تُظهر الصورةُ آفةً صغيرةً", "naïve 東京 🩻 <|eot_id|x", "line\n\nbreak", "٣٫٥ ملم"):
        assert first.decode(first.encode(text).ids) == text
    assert all(first.token_to_id(token) is not None for token in CONTROL_TOKENS)
    assert CONTROL_TOKENS[-1] == IMAGE


def test_names_in_the_file_are_the_classic_ones() -> None:
    """The names vLLM expects."""
    assert classic_name("model.vision_tower.embeddings.x") == "vision_tower.vision_model.embeddings.x"
    assert classic_name("model.language_model.layers.0.x") == "language_model.model.layers.0.x"
    assert classic_name("lm_head.weight") == "language_model.lm_head.weight"
    assert classic_name("model.multi_modal_projector.linear_1.bias") == "multi_modal_projector.linear_1.bias"


def test_exported_configs_are_json_with_padding_processor(tmp_path: Path, shop: Workshop) -> None:
    """The image processor pads; the end of a turn ends an answer."""
    export_model(shop.model.state_dict(), shop.model.config, shop.tokenizer, tmp_path)
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert processor["do_pad"] is True
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == shop.renderer.end_of_turn
