"""Phi-3.5-Vision without its own code: squares, prompt and logits of a reference written out here."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from engine.checkpoint import LoadOptions, load
from engine.crops import CropSettings, crop_grid, cut, image_tokens
from engine.errors import CheckpointKeysError, MissingTokenizerError, UnsupportedCheckpointError
from engine.local import LocalBackend
from engine.messages import Delta, GenerationOptions, ImagePart, Message
from tests.engine.tiny import PHI3_VISION, build_phi3v, build_tokenizer, random_image, rewrite_config

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from engine.checkpoint import LoadedModel

CPU = LoadOptions(device="cpu", dtype="float32", threads=1)
SIDE = 56


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_phi3v(tmp_path_factory.mktemp("phi3v"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(folder, CPU)


@pytest.mark.parametrize(
    ("rows", "columns", "most", "squares", "tokens"),
    [
        (336, 336, 16, (4, 4), 2509),
        (336, 336, 4, (2, 2), 757),
        (1000, 1000, 4, (2, 2), 757),
        (480, 640, 4, (2, 2), 757),
        (640, 480, 4, (2, 2), 757),
        (300, 900, 4, (1, 3), 601),
        (900, 300, 4, (3, 1), 625),
        (100, 4000, 4, (1, 4), 745),
        (1, 1, 1, (1, 1), 313),
        (1080, 1920, 16, (3, 5), 2353),
    ],
)
def test_squares_and_places(
    rows: int, columns: int, most: int, squares: tuple[int, int], tokens: int
) -> None:
    """Number of squares and of places in the prompt at the released size, worked out by hand."""
    grid = crop_grid(rows, columns, CropSettings(most=most))

    assert (grid.rows, grid.columns) == squares
    assert image_tokens(grid) == tokens == (squares[0] * squares[1] + 1) * 144 + 1 + (squares[0] + 1) * 12


def reference_squares(pixels: np.ndarray, most: int, side: int) -> tuple[torch.Tensor, int, int]:
    """Cut an image with PIL, step by step: turn, enlarge, pad, turn back, normalise, slice."""
    import torch

    image = Image.fromarray(pixels)
    turned = image.width < image.height
    if turned:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    ratio, scale = image.width / image.height, 1
    while scale * math.ceil(scale / ratio) <= most:
        scale += 1
    width = (scale - 1) * side
    image = image.resize((width, int(width / ratio)), Image.Resampling.BILINEAR)
    height = math.ceil(image.height / side) * side
    white = Image.new("RGB", (width, height), (255, 255, 255))
    white.paste(image, (0, (height - image.height) // 2))
    if turned:
        white = white.transpose(Image.Transpose.TRANSPOSE)
    values = torch.from_numpy(np.array(white, np.float32) / 255)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    values = ((values - mean) / std).permute(2, 0, 1)
    rows, columns = white.height // side, white.width // side
    pieces = [torch.nn.functional.interpolate(values[None], size=(side, side), mode="bicubic")[0]]
    pieces += [
        values[:, r * side : (r + 1) * side, c * side : (c + 1) * side]
        for r in range(rows)
        for c in range(columns)
    ]
    return torch.stack(pieces), rows, columns


SHAPES = [(56, 56), (40, 100), (100, 40), (30, 200), (200, 31), (57, 58)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_cutting_equals_the_reference(rows: int, columns: int) -> None:
    """Every square's values are those of the step-by-step way, also for upright images."""
    import torch

    image = random_image(5, rows, columns)

    ours, grid = cut(image.pixels, CropSettings(side=SIDE))

    theirs, *shape = reference_squares(image.pixels, 4, SIDE)
    assert [grid.rows, grid.columns] == shape
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


class Reference:
    """The released model's forward by hand, from the released keys."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3ForCausalLM

        self.tensors = load_file(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        rope = config.pop("rope_scaling")
        rope["rope_type"] = "longrope" if rope.pop("type") == "su" else "?"
        for name in ("model_type", "architectures", "auto_map", "embd_layer", "img_processor"):
            del config[name]
        self.language = Phi3ForCausalLM(Phi3Config(**config, rope_scaling=rope)).eval()
        wanted = self.language.state_dict()
        self.language.load_state_dict({key: self.tensors[key] for key in wanted})
        vision = {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 1,
        }
        self.tower = CLIPVisionModel(CLIPVisionConfig(**vision, image_size=SIDE, patch_size=14)).eval()
        self.tower.load_state_dict(
            {
                key: self.tensors[PHI3_VISION + key.removeprefix("vision_model.")]
                for key in self.tower.state_dict()
            }
        )

    def part(self, name: str) -> torch.Tensor:
        return self.tensors[f"model.vision_embed_tokens.{name}"]

    def place(self, grid: torch.Tensor, row: int, column: int) -> torch.Tensor:
        """Join four neighbours: upper left, upper right, lower left, lower right."""
        import torch

        return torch.cat(
            [grid[row, column], grid[row, column + 1], grid[row + 1, column], grid[row + 1, column + 1]]
        )

    def features(self, image: ImagePart) -> torch.Tensor:
        """Places of an image, one after the other, in plain loops."""
        import torch
        from torch.nn.functional import gelu, linear

        squares, rows, columns = reference_squares(image.pixels, 4, SIDE)
        hidden = self.tower(squares, output_hidden_states=True).hidden_states[-2][:, 1:]
        patches = SIDE // 14
        grids = hidden.reshape(len(squares), patches, patches, -1)
        large = torch.cat(
            [torch.cat([grids[1 + r * columns + c] for c in range(columns)], dim=1) for r in range(rows)]
        )
        places = []
        for number, grid in enumerate((large, grids[0])):
            for row in range(0, grid.shape[0], 2):
                places += [self.place(grid, row, column) for column in range(0, grid.shape[1], 2)]
                places.append(self.part("sub_GN").flatten())
            if number == 0:
                places.append(self.part("glb_GN").flatten())
        first = linear(
            torch.stack(places), self.part("img_projection.0.weight"), self.part("img_projection.0.bias")
        )
        return linear(gelu(first), self.part("img_projection.2.weight"), self.part("img_projection.2.bias"))

    def logits(self, pieces: list[list[int] | ImagePart]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            embed = self.language.get_input_embeddings()
            rows = [
                self.features(piece) if isinstance(piece, ImagePart) else embed(torch.tensor(piece))
                for piece in pieces
            ]
            return self.language(inputs_embeds=torch.cat(rows)[None]).logits[0]


def written_out(loaded: LoadedModel, messages: list[Message]) -> list[list[int] | ImagePart]:
    """Write a conversation as one string, cut it at the images and tokenise each piece, as upstream does."""
    text, images = "", []
    for message in messages:
        text += f"<|{message.role}|>\n"
        for image in message.images:
            images.append(image)
            text += "\0\n"
        text += f"{message.text}<|end|>\n"
    pieces: list[list[int] | ImagePart] = []
    for number, piece in enumerate((text + "<|assistant|>\n").split("\0")):
        if number:
            pieces.append(images[number - 1])
        pieces.append(loaded.tokenizer.encode(piece).ids)
    return pieces


CONVERSATIONS = {
    "image": [Message.of("user", random_image(1, 40, 100), "Which side?")],
    "upright image": [Message.of("user", random_image(2, 100, 40), "في أي جهة؟")],
    "text only": [Message.of("user", "Hello there")],
    "system, two images, two turns": [
        Message.of("system", "Be brief."),
        Message.of("user", random_image(1, 56, 56), random_image(2, 30, 200), "Which  side?"),
        Message.of("assistant", "the left."),
        Message.of("user", random_image(3, 31, 30), "And here?\nSay"),
    ],
}
EACH = pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())


@EACH
def test_ids_equal_the_written_out_conversation(loaded: LoadedModel, messages: list[Message]) -> None:
    """Built piece by piece, the ids are those of the pieces tokenised as upstream does, images as places."""
    rendered = loaded.renderer.render(messages)
    marker = loaded.renderer.profile.image_token_id
    lengths = iter(rendered.image_slots)
    expected: list[int] = []
    for piece in written_out(loaded, messages):
        expected += [marker] * next(lengths).length if isinstance(piece, ImagePart) else piece

    assert list(rendered.ids) == expected
    assert sum(slot.length for slot in rendered.image_slots) == rendered.ids.count(marker)


@EACH
def test_logits_equal_the_reference(folder: Path, loaded: LoadedModel, messages: list[Message]) -> None:
    """From released keys to logits within 1e-4 of the forward written out above."""
    import torch

    computer = LocalBackend(loaded)._device
    rendered = loaded.renderer.render(messages)
    images = {image.digest: image for message in messages for image in message.images}
    with torch.inference_mode():
        ours = loaded.model(computer.embed_prompt(rendered, images, 0, len(rendered.ids)))[0]

    expected = Reference(folder).logits(written_out(loaded, messages))

    assert expected.abs().max() > 1
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@EACH
def test_greedy_tokens_equal_the_reference(
    folder: Path, loaded: LoadedModel, messages: list[Message]
) -> None:
    """Token by token, in chunks and with a cache, the backend chooses what the reference chooses."""
    reference, pieces = Reference(folder), written_out(loaded, messages)
    expected: list[int] = []
    for _ in range(8):
        logits = reference.logits([*pieces, expected] if expected else pieces)[-1].clone()
        logits[list(loaded.suppressed_ids)] = float("-inf")
        if int(logits.argmax()) in loaded.stop_ids:
            break
        expected.append(int(logits.argmax()))

    backend = LocalBackend(loaded, prefill_chunk=16)
    list(backend.stream(messages, GenerationOptions(max_new_tokens=8)))
    (remembered,) = backend._device.answers.values()

    assert list(remembered) == expected


def test_a_follow_up_reuses_the_first_turn(loaded: LoadedModel) -> None:
    """With images of several lengths in the prompt, the cache is found again and changes no answer."""
    backend, messages = LocalBackend(loaded), list(CONVERSATIONS["image"])
    for question in ("And how large?", "Sure?"):
        text = "".join(
            event.text
            for event in backend.stream(messages, GenerationOptions(max_new_tokens=6))
            if isinstance(event, Delta)
        )
        messages += [Message.of("assistant", text), Message.of("user", random_image(9, 90, 30), question)]
    fresh = LocalBackend(loaded)
    fresh._device.answers = backend._device.answers.copy()
    events = [list(b.stream(messages, GenerationOptions(max_new_tokens=6))) for b in (backend, fresh)]

    assert [e for e in events[0] if isinstance(e, Delta)] == [e for e in events[1] if isinstance(e, Delta)]
    read = len(loaded.renderer.render(messages[:3], answer_ids=backend._device.answers).ids)
    assert events[0][-1].usage.reused_tokens >= read  # type: ignore[union-attr]
    assert events[1][-1].usage.reused_tokens == 0  # type: ignore[union-attr]


def test_training_learns_the_answers_and_their_ends(loaded: LoadedModel) -> None:
    """The loss mask covers each answer and its <|end|>, behind exactly the prompt that chat gives."""
    question = CONVERSATIONS["image"]
    prompt = loaded.renderer.render(question)
    trained = loaded.renderer.render([*question, Message.of("assistant", "the left")], for_training=True)

    learned = [i for i, learn in zip(trained.ids, trained.loss_mask, strict=True) if learn]
    assert trained.ids[: len(prompt.ids)] == prompt.ids
    assert learned == [*loaded.renderer.encode("the left"), loaded.renderer.end_of_turn]


@pytest.mark.parametrize("text", ["<|end|>", "<|assistant|>\nYes", "<s>", "<|image|>", "<|image_1|>"])
def test_typed_control_tokens_stay_text(loaded: LoadedModel, text: str) -> None:
    """What is typed never becomes a control token of this layout either."""
    control = {number for name, number in loaded.tokenizer.get_vocab().items() if name.startswith("<|")}
    control.add(1)

    def marks(typed: str) -> list[int]:
        return [i for i in loaded.renderer.render([Message.of("user", typed)]).ids if i in control]

    assert marks(text) == marks("plain")


def test_the_context_ends_before_the_long_factors(loaded: LoadedModel) -> None:
    """Keys computed with the short factors are never mixed with the long ones."""
    assert loaded.renderer.profile.context_length == 512


@pytest.mark.parametrize(
    ("field", "value"),
    [("hd_transform_order", "glb_sub"), ("use_hd_transform", False), ("with_learnable_separator", False)],
)
def test_other_ways_of_cutting_are_refused(tmp_path: Path, field: str, value: object) -> None:
    """What is not computed here is named with what would be."""
    build_phi3v(tmp_path)
    layer = json.loads((tmp_path / "config.json").read_text())["embd_layer"]
    rewrite_config(tmp_path, embd_layer=layer | {field: value})

    with pytest.raises(UnsupportedCheckpointError, match=f"found embd_layer.{field} = "):
        load(tmp_path, CPU)


def test_a_missing_separator_is_listed(tmp_path: Path) -> None:
    """Strict here too."""
    from safetensors.torch import load_file, save_file

    build_phi3v(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.vision_embed_tokens.glb_GN"]
    save_file(tensors, tmp_path / "model.safetensors")

    with pytest.raises(CheckpointKeysError, match=r"1 missing.*model\.between"):
        load(tmp_path, CPU)


@pytest.mark.parametrize("both", [True, False])
def test_the_embedding_under_its_second_name_is_read(tmp_path: Path, folder: Path, both: bool) -> None:
    """The released program shares one embedding between two names; files may hold either or both."""
    import torch
    from safetensors.torch import load_file, save_file

    build_phi3v(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.vision_embed_tokens.wte.weight"] = tensors["model.embed_tokens.weight"].clone()
    if not both:
        del tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors")

    ours, theirs = load(tmp_path, CPU).model.state_dict(), load(folder, CPU).model.state_dict()

    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_tokenizer_of_another_family_is_refused(tmp_path: Path) -> None:
    """Llama 3's tokenizer has none of the control tokens."""
    build_phi3v(tmp_path)
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(MissingTokenizerError, match=r"<\|image\|>"):
        load(tmp_path, CPU)
