"""Original ``llava_llama`` checkpoints: the numbers of a reference forward written out here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.checkpoint import LoadOptions, load
from engine.convert import rename, tensor_shapes
from engine.errors import (
    CheckpointError,
    CheckpointKeysError,
    MissingTokenizerError,
    UnsupportedCheckpointError,
)
from engine.local import LocalBackend
from engine.messages import Delta, GenerationOptions, Message
from tests.engine.tiny import ORIGINAL_VISION, build_original, build_tokenizer, random_image, rewrite_config

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from engine.checkpoint import LoadedModel

CPU = LoadOptions(device="cpu", dtype="float32", threads=1)
IMAGE = -200
"""Upstream's mark of an image position: no id of the vocabulary."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an original checkpoint, once."""
    return build_original(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    """Load it, once."""
    return load(folder, CPU)


class Reference:
    """LLaVA's forward from the original tensors, by hand: features, projector, splice at -200."""

    def __init__(self, folder: Path) -> None:
        import json

        from safetensors.torch import load_file
        from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

        config = json.loads((folder / "config.json").read_text())
        tensors: dict[str, Any] = {}
        for file in folder.glob("*.safetensors"):
            tensors |= load_file(file)
        text = {
            key: value
            for key, value in config.items()
            if not key.startswith(("mm_", "image", "model_type", "arch"))
        }
        self.language = LlamaForCausalLM(LlamaConfig(**text)).eval()
        wanted = self.language.state_dict()
        self.language.load_state_dict({key: tensors[key] for key in wanted})
        vision = {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 1,
        }
        self.tower = CLIPVisionModel(CLIPVisionConfig(**vision, image_size=28, patch_size=14)).eval()
        self.tower.load_state_dict(
            {
                key: tensors[ORIGINAL_VISION + key.removeprefix("vision_model.")]
                for key in self.tower.state_dict()
            }
        )
        self.projector = [
            tensors[f"model.mm_projector.{n}.{kind}"] for n in (0, 2) for kind in ("weight", "bias")
        ]

    def embeddings(self, ids: list[int], pixels: list[torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import gelu, linear

        pieces, images = [], iter(pixels)
        for token in ids:
            if token == IMAGE:
                hidden = self.tower(next(images), output_hidden_states=True).hidden_states[-2][:, 1:]
                a_weight, a_bias, b_weight, b_bias = self.projector
                pieces.append(linear(gelu(linear(hidden, a_weight, a_bias)), b_weight, b_bias)[0])
            else:
                pieces.append(self.language.get_input_embeddings()(torch.tensor([token])))
        return torch.cat(pieces)[None]

    def logits(self, ids: list[int], pixels: list[torch.Tensor]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            return self.language(inputs_embeds=self.embeddings(ids, pixels)).logits[0]


CONVERSATIONS = [
    [Message.of("user", random_image(1), "Which side?")],
    [Message.of("user", "في أي جهة؟")],
    [
        Message.of("user", random_image(1), "Which side?"),
        Message.of("assistant", "Left."),
        Message.of("user", random_image(2, 40, 20), "And here?"),
    ],
]


def upstream_ids(loaded: LoadedModel, messages: list[Message]) -> list[int]:
    """Ids with one -200 an image, as upstream's tokenising gives them."""
    rendered = loaded.renderer.render(messages)
    starts = {slot.start: slot.length for slot in rendered.image_slots}
    ids, position = [], 0
    while position < len(rendered.ids):
        if position in starts:
            ids.append(IMAGE)
            position += starts[position]
        else:
            ids.append(rendered.ids[position])
            position += 1
    return ids


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["image", "text only", "two images"])
def test_logits_equal_the_reference(folder: Path, loaded: LoadedModel, messages: list[Message]) -> None:
    """Through the rename table, every logit is the reference's within 1e-4, in float32."""
    import torch

    pixels = [loaded.pixel_values(image) for message in messages for image in message.images]
    rendered = loaded.renderer.render(messages)
    with torch.inference_mode():
        ours = loaded.model(
            input_ids=torch.tensor([rendered.ids]), pixel_values=torch.cat(pixels) if pixels else None
        ).logits[0]

    expected = Reference(folder).logits(upstream_ids(loaded, messages), pixels)

    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["image", "text only", "two images"])
def test_greedy_answers_equal_the_reference(
    folder: Path, loaded: LoadedModel, messages: list[Message]
) -> None:
    """Token by token, the backend chooses what the reference chooses."""
    reference, ids = Reference(folder), upstream_ids(loaded, messages)
    pixels = [loaded.pixel_values(image) for message in messages for image in message.images]
    expected: list[int] = []
    for _ in range(10):
        logits = reference.logits(ids + expected, pixels)[-1].clone()
        logits[list(loaded.suppressed_ids)] = float("-inf")
        if int(logits.argmax()) in loaded.stop_ids:
            break
        expected.append(int(logits.argmax()))

    events = LocalBackend(loaded).stream(messages, GenerationOptions(max_new_tokens=10))
    text = "".join(event.text for event in events if isinstance(event, Delta))

    assert text.rstrip("\ufffd") == loaded.renderer.decode(expected).rstrip("\ufffd")


def test_the_prompt_begins_twice_as_upstream_trained(loaded: LoadedModel) -> None:
    """llava_llama checkpoints get two <|begin_of_text|>."""
    ids = loaded.renderer.render([Message.of("user", "Hi")]).ids

    assert ids[:2] == (loaded.renderer.token_id("<|begin_of_text|>"),) * 2


def test_a_reserved_token_stands_for_the_image(loaded: LoadedModel) -> None:
    """No row is added: the vocabulary stays as it was, and the stand-in is never sampled."""
    image_id = loaded.renderer.profile.image_token_id

    assert image_id == loaded.tokenizer.token_to_id("<|reserved_special_token_0|>")
    assert loaded.model.lm_head.weight.shape[0] == loaded.tokenizer.get_vocab_size()
    assert image_id in loaded.suppressed_ids


def test_geometry_comes_from_the_tensors_not_the_name(loaded: LoadedModel) -> None:
    """Whatever mm_vision_tower is called, width, depth, patch and image size are those of the weights."""
    vision = loaded.model.config.vision_config

    assert (vision.hidden_size, vision.num_hidden_layers, vision.patch_size, vision.image_size) == (
        64,
        3,
        14,
        28,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mm_projector_type", "linear"),
        ("mm_patch_merge_type", "spatial_unpad"),
        ("mm_use_im_start_end", True),
        ("image_aspect_ratio", "anyres"),
        ("mm_vision_select_feature", "pooled"),
    ],
)
def test_other_structures_are_refused_by_field(tmp_path: Path, field: str, value: object) -> None:
    """What is not computed here is named with what would be."""
    build_original(tmp_path, **{field: value})

    with pytest.raises(UnsupportedCheckpointError, match=f"found {field} = .*{value}.*expected {field} = "):
        load(tmp_path, CPU)


def test_a_missing_vision_tower_is_named(tmp_path: Path) -> None:
    """Weights without the tower say which tensors are expected."""
    import json

    build_original(tmp_path, shards=1)
    from safetensors.torch import load_file, save_file

    (file,) = tmp_path.glob("*.safetensors")
    kept = {key: value for key, value in load_file(file).items() if "vision_tower" not in key}
    save_file(kept, file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(kept, file.name)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(CheckpointError, match=r"no vision tower.*clip-vit-large-patch14-336"):
        load(tmp_path, CPU)


def test_a_missing_projector_is_listed(tmp_path: Path) -> None:
    """Strict: a tensor that is not there stops the loading by name."""
    from safetensors.torch import load_file, save_file

    build_original(tmp_path, shards=1)
    (file,) = tmp_path.glob("*.safetensors")
    tensors = load_file(file)
    del tensors["model.mm_projector.2.bias"]
    save_file(tensors, file, metadata={"format": "pt"})

    with pytest.raises(CheckpointKeysError, match=r"1 missing.*multi_modal_projector\.linear_2\.bias"):
        load(tmp_path, CPU)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    """A truncated file is named with what to do."""
    build_original(tmp_path)
    file = tmp_path / "model-00002-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:100])

    with pytest.raises(CheckpointError, match=r"model-00002-of-00003.*download it again"):
        load(tmp_path, CPU)


def test_a_vocabulary_of_another_size_is_a_mismatch(tmp_path: Path) -> None:
    """vocab_size is taken from the config and checked against the tensors, never assumed or resized."""
    build_original(tmp_path)
    rewrite_config(tmp_path, vocab_size=999)

    with pytest.raises(CheckpointKeysError, match="2 of another shape"):
        load(tmp_path, CPU)


def test_no_token_to_stand_for_an_image_is_refused(tmp_path: Path) -> None:
    """A tokenizer without <image> and without a reserved token says so."""
    build_original(tmp_path)
    names = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    build_tokenizer(names).save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(MissingTokenizerError, match="neither <image> nor"):
        load(tmp_path, CPU)


def test_every_original_key_has_one_new_name(folder: Path, loaded: LoadedModel) -> None:
    """The rename table maps onto the model's own names, one to one, but for buffers of older releases."""
    left_over = ("rotary_emb.inv_freq", "position_ids")
    renamed = [rename(key) for key in tensor_shapes(folder) if not key.endswith(left_over)]

    assert sorted(renamed) == sorted(loaded.model.state_dict())
