"""Adapters: the numbers of peft itself, the base bit for bit, and no adapter on another model."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from engine.adapter_files import LANGUAGE_TARGETS, read_adapter
from engine.checkpoint import LoadOptions, load
from engine.errors import AdapterBaseError, AdapterBaseMissingError, AdapterError, BackendUnavailableError
from engine.local import LocalBackend
from engine.messages import Delta, GenerationOptions, Message
from tests.engine.tiny import build_checkpoint, build_original, random_image, rewrite_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from engine.checkpoint import LoadedModel

CPU = LoadOptions(device="cpu", dtype="float32", threads=1)
QUESTION = [Message.of("user", random_image(1), "Which side?")]


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Let peft ask transformers under a name that is going away; the engine's own calls must not warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def build_adapter(folder: Path, base: Path, seed: int, *, projector: bool = True) -> Path:
    """Write an adapter with random weights, by peft itself."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlavaForConditionalGeneration

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=LANGUAGE_TARGETS,
        modules_to_save=["multi_modal_projector"] if projector else None,
        task_type="CAUSAL_LM",
    )
    with quiet_peft():
        model = get_peft_model(LlavaForConditionalGeneration.from_pretrained(base), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            assert "vision_tower" not in name or not parameter.requires_grad
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def one(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_adapter(tmp_path_factory.mktemp("adapters") / "one", tiny_folder, 1)


@pytest.fixture(scope="module")
def two(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_adapter(tmp_path_factory.mktemp("adapters") / "two", tiny_folder, 2, projector=False)


@pytest.fixture
def model(tiny_folder: Path) -> LoadedModel:
    return load(tiny_folder, CPU)


def logits(loaded: LoadedModel) -> torch.Tensor:
    return forward(loaded.model, loaded)


def forward(model, loaded: LoadedModel) -> torch.Tensor:
    import torch

    rendered = loaded.renderer.render(QUESTION)
    with torch.inference_mode():
        return model(
            input_ids=torch.tensor([rendered.ids]), pixel_values=loaded.pixel_values(QUESTION[0].images[0])
        ).logits


def peft_logits(adapter: Path, loaded: LoadedModel, base: Path) -> torch.Tensor:
    """Compute with transformers and peft alone."""
    from peft import PeftModel
    from transformers import LlavaForConditionalGeneration

    with quiet_peft():
        model = PeftModel.from_pretrained(LlavaForConditionalGeneration.from_pretrained(base), adapter)
    return forward(model.eval(), loaded)


def test_attached_equals_peft_and_switching_back_is_the_base(
    model: LoadedModel, one: Path, two: Path, tiny_folder: Path
) -> None:
    """Each adapter's logits are peft's own; between and after them the base is bitwise what it was."""
    import torch

    base = logits(model)
    for folder in (one, two):
        model.adapters.attach(folder)
        assert torch.equal(logits(model), base), "attaching alone changes nothing"
    assert model.adapters.names == ("one", "two")

    for name, folder in (("one", one), ("two", two), ("one", one)):
        model.adapters.use(name)
        torch.testing.assert_close(logits(model), peft_logits(folder, model, tiny_folder), atol=1e-5, rtol=0)
    assert not torch.allclose(logits(model), base, atol=1e-2)
    model.adapters.use(None)
    assert torch.equal(logits(model), base)

    model.adapters.use("two")
    expected = logits(model)
    model.adapters.detach("one")
    assert torch.equal(logits(model), expected), "the other one stays in use"
    model.adapters.attach(one)
    model.adapters.detach("two")
    model.adapters.use("one")
    model.adapters.detach("one")
    assert torch.equal(logits(model), base), "the last one takes its projector along"
    assert not [name for name, _ in model.model.named_modules() if "lora" in name]


def test_merged_equals_attached(model: LoadedModel, one: Path) -> None:
    """Merging changes no logit by more than 1e-4, and leaves plain layers and another cache key."""
    import torch

    model.adapters.attach(one)
    model.adapters.use("one")
    attached, keys = logits(model), {model.adapters.key(None), model.cache_key}

    model.adapters.merge("one")

    torch.testing.assert_close(logits(model), attached, atol=1e-4, rtol=1e-5)
    assert model.adapters.names == ()
    assert not [name for name, _ in model.model.named_modules() if "lora" in name]
    assert model.cache_key not in keys


def llava_style(peft_folder: Path, folder: Path) -> Path:
    """Write a peft adapter as LLaVA's training leaves it: pickled, original names, a list that hits CLIP."""
    import torch
    from safetensors.torch import load_file

    folder.mkdir()
    tensors = load_file(peft_folder / "adapter_model.safetensors")
    lora = {k.replace("model.language_model.", "model."): v for k, v in tensors.items() if "lora_" in k}
    places = {"linear_1": "0", "linear_2": "2"}
    projector = {
        f"base_model.model.model.mm_projector.{places[key.split('.')[-2]]}.{key.split('.')[-1]}": value
        for key, value in tensors.items()
        if "projector" in key
    }
    torch.save(lora, folder / "adapter_model.bin")
    torch.save(projector, folder / "non_lora_trainables.bin")
    config = json.loads((peft_folder / "adapter_config.json").read_text())
    config |= {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "modules_to_save": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llava_llama", "vocab_size": 128257}))
    return folder


def test_a_llava_folder_equals_the_same_adapter_in_peft_s_layout(
    model: LoadedModel, one: Path, tmp_path: Path
) -> None:
    """Pickled LoRA and projector under original names give the same logits; the vision tower is untouched."""
    import torch

    model.adapters.attach(one)
    model.adapters.attach(llava_style(one, tmp_path / "llava"))
    model.adapters.use("one")
    expected = logits(model)
    model.adapters.use("llava")

    assert torch.equal(logits(model), expected)
    assert not [name for name, _ in model.model.named_modules() if "lora" in name and "vision" in name]


def test_a_vocabulary_row_of_training_does_not_matter(model: LoadedModel, one: Path, tmp_path: Path) -> None:
    """An added <pad> row is not among the tensors: it is never fed nor sampled, so nothing is lost."""
    folder = llava_style(one, tmp_path / "llava")

    assert not [key for key in read_adapter(folder).saved if "embed" in key or "lm_head" in key]
    model.adapters.attach(folder)


@pytest.mark.parametrize("rounded", [False, True])
def test_a_lengthened_vocabulary_is_taken(
    model: LoadedModel, one: Path, tmp_path: Path, rounded: bool
) -> None:
    """When training added a row, peft writes the whole embedding along; the base's rows are as they were."""
    import torch

    plain = llava_style(one, tmp_path / "plain")
    folder = shutil.copytree(plain, tmp_path / "lengthened")
    extra = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    for own, theirs in (
        (model.model.get_input_embeddings().weight, "base_model.model.model.embed_tokens.weight"),
        (model.model.lm_head.weight, "base_model.model.lm_head.weight"),
    ):
        longer = torch.cat([own.detach(), own.detach().mean(0, keepdim=True)])
        extra[theirs] = longer.to(torch.bfloat16) if rounded else longer
    torch.save(extra, folder / "non_lora_trainables.bin")

    model.adapters.use(model.adapters.attach(plain))
    expected = logits(model)
    model.adapters.use(model.adapters.attach(folder))
    assert torch.equal(logits(model), expected)


def test_trained_embeddings_are_refused_by_name(model: LoadedModel, one: Path, tmp_path: Path) -> None:
    """An adapter that changes a whole embedding is not attached in part."""
    import torch

    folder = llava_style(one, tmp_path / "llava")
    key = "base_model.model.model.embed_tokens.weight"
    for rows, width, error, message in (
        (9, 32, AdapterError, r"it trained model\.language_model\.embed_tokens\.weight itself"),
        (
            9,
            31,
            AdapterBaseError,
            r"was made for a model whose model\.language_model\.embed_tokens\.weight is",
        ),
    ):
        torch.save({key: torch.zeros(rows, width)}, folder / "non_lora_trainables.bin")
        with pytest.raises(error, match=message):
            model.adapters.attach(folder)


def test_pickled_code_is_not_run(model: LoadedModel, one: Path, tmp_path: Path) -> None:
    """A pickle that calls a function is refused, and the function is not called."""
    import pickle

    folder = llava_style(one, tmp_path / "llava")

    class Harmful:
        def __reduce__(self):
            return ((tmp_path / "was-run").mkdir, ())

    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"a": Harmful()}, protocol=2))

    with pytest.raises(AdapterError, match=r"adapter_model\.bin cannot be read"):
        model.adapters.attach(folder)
    assert not (tmp_path / "was-run").exists()


def test_an_adapter_for_another_base_is_refused_with_both_names(
    model: LoadedModel, one: Path, tmp_path: Path
) -> None:
    """The names are compared; told to, it is attached all the same, because its shapes fit."""
    folder = shutil.copytree(one, tmp_path / "other")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/else-8B"
    (folder / "adapter_config.json").write_text(json.dumps(config))

    with pytest.raises(AdapterBaseError) as caught:
        model.adapters.attach(folder)

    assert caught.value.values["expected"] == "somebody/else-8B"
    assert caught.value.values["found"] == model.name
    assert model.adapters.attach(folder, any_base=True) == "other"


def test_shapes_that_do_not_fit_are_refused_even_when_told(one: Path, tmp_path: Path) -> None:
    """A model of another width is named with both widths, and stays as it was."""
    import torch

    wider = load(wide(tmp_path), CPU)
    before = logits(wider)

    with pytest.raises(AdapterBaseError, match=r"has an (in|out)put of \d+.*where it is \d+"):
        wider.adapters.attach(one, any_base=True)
    assert torch.equal(logits(wider), before)


def wide(folder: Path) -> Path:
    """Build a checkpoint whose language model has other widths."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    base = build_checkpoint(folder / "wide")
    config = LlavaConfig.from_pretrained(base)
    config.text_config.intermediate_size = 96
    LlavaForConditionalGeneration(config).save_pretrained(base)
    return base


def test_missing_tensors_are_named(model: LoadedModel, one: Path, tmp_path: Path) -> None:
    """An adapter of which a part is missing is refused, and the model is the base again."""
    import torch
    from safetensors.torch import load_file, save_file

    base = logits(model)
    folder = shutil.copytree(one, tmp_path / "half")
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors["base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_B.weight"]
    save_file(tensors, folder / "adapter_model.safetensors")

    with pytest.raises(AdapterError, match=r"missing or unknown \(.*layers\.1\.self_attn\.q_proj\.lora_B"):
        model.adapters.attach(folder)
    assert torch.equal(logits(model), base)
    assert model.adapters.names == ()


def test_loading_an_adapter_opens_its_base(one: Path, tiny_folder: Path) -> None:
    """The folder of an adapter gives the base with the adapter in use."""
    import torch

    loaded = load(one, CPU)

    assert loaded.adapters.active == "one"
    torch.testing.assert_close(logits(loaded), peft_logits(one, loaded, tiny_folder), atol=1e-5, rtol=0)


def test_a_base_that_is_not_here_is_named(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which model to download; nothing is downloaded."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = shutil.copytree(one, tmp_path / "far")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "MBZUAI/not-downloaded"
    (folder / "adapter_config.json").write_text(json.dumps(config))

    with pytest.raises(AdapterBaseMissingError, match=r"needs the model MBZUAI/not-downloaded"):
        load(folder, CPU)


def answer(backend: LocalBackend, messages: list[Message] = QUESTION) -> str:
    events = backend.stream(messages, GenerationOptions(max_new_tokens=8))
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_switching_between_turns_never_reuses_another_adapter_s_cache(
    model: LoadedModel, one: Path, two: Path
) -> None:
    """Answers with cache after switching equal those of a fresh backend; keys differ for every adapter."""
    model.adapters.attach(one)
    model.adapters.attach(two)
    expected = {}
    for name in (None, "one", "two"):
        fresh = LocalBackend(model)
        fresh.use_adapter(name)
        expected[name] = answer(fresh)
    assert len(set(expected.values())) == 3
    assert len({model.adapters.key(name) for name in expected}) == 3

    backend = LocalBackend(model)
    for name in (None, "one", "two", "one", None):
        backend.use_adapter(name)
        assert answer(backend) == expected[name]


def test_an_answer_keeps_its_adapter_while_another_is_chosen(
    model: LoadedModel, one: Path, two: Path
) -> None:
    """A stream that has begun is written to its end with the adapter it began with."""
    model.adapters.attach(one)
    model.adapters.attach(two)
    backend = LocalBackend(model)
    backend.use_adapter("one")
    alone = answer(backend)
    fresh = LocalBackend(model)
    fresh.use_adapter("one")
    stream = fresh.stream(QUESTION, GenerationOptions(max_new_tokens=8))
    pieces = []
    for event in stream:
        if isinstance(event, Delta):
            pieces.append(event.text)
            fresh.use_adapter("two")
            answer(fresh)

    assert "".join(pieces) == alone


def test_an_adapter_that_is_not_attached_cannot_be_chosen(model: LoadedModel) -> None:
    """A wrong name is a mistake of the program."""
    with pytest.raises(KeyError):
        LocalBackend(model).use_adapter("nowhere")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make an original checkpoint, and the same weights as Llama, CLIP and a LLaVA LoRA folder."""
    import torch
    from safetensors.torch import load_file, save_file

    home = tmp_path_factory.mktemp("parts")
    whole = build_original(home / "whole", shards=1)
    (file,) = whole.glob("*.safetensors")
    tensors = load_file(file)
    config = json.loads((whole / "config.json").read_text())
    llama, clip, adapter = home / "Llama-3.1-8B-Instruct", home / "clip", home / "lora"
    for folder in (llama, clip, adapter):
        folder.mkdir()
    language = {
        k: v for k, v in tensors.items() if "mm_proj" not in k and "vision" not in k and "inv_freq" not in k
    }
    save_file(language, llama / "model.safetensors", metadata={"format": "pt"})
    plain = {k: v for k, v in config.items() if not k.startswith(("mm_", "image"))}
    (llama / "config.json").write_text(
        json.dumps(plain | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    )
    shutil.copy(whole / "tokenizer.json", llama)
    tower = {
        key.removeprefix("model.vision_tower.vision_tower."): value
        for key, value in tensors.items()
        if "vision_tower" in key and "position_ids" not in key
    }
    torch.save(tower | {"text_model.something": torch.zeros(2)}, clip / "pytorch_model.bin")
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1}
    (clip / "config.json").write_text(
        json.dumps({"model_type": "clip", "vision_config": vision | {"image_size": 28, "patch_size": 14}})
    )
    generator = torch.Generator().manual_seed(5)
    lora = {}
    for name in ("q_proj", "v_proj"):
        for layer in range(2):
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_"
            out = tensors[f"model.layers.{layer}.self_attn.{name}.weight"].shape[0]
            lora[key + "A.weight"] = torch.randn(4, 32, generator=generator) * 0.2
            lora[key + "B.weight"] = torch.randn(out, 4, generator=generator) * 0.2
    torch.save(lora, adapter / "adapter_model.bin")
    projector = {f"base_model.model.{k}": v for k, v in tensors.items() if "mm_projector" in k}
    torch.save(projector, adapter / "non_lora_trainables.bin")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": str(llama)}
    (adapter / "adapter_config.json").write_text(
        json.dumps(settings | {"target_modules": ["q_proj", "v_proj"]})
    )
    # LLaVA-pp's training adds a <pad> row: the config says one more than the Llama has
    config |= {"mm_vision_tower": str(clip), "vocab_size": config["vocab_size"] + 1}
    (adapter / "config.json").write_text(json.dumps(config))
    return whole, adapter


def test_a_lora_over_a_plain_llama_is_put_together(parts: tuple[Path, Path]) -> None:
    """Llama, CLIP and projector from three folders give the logits of the whole, with and without LoRA."""
    import torch

    whole, adapter = parts
    expected, loaded = load(whole, CPU), load(adapter, CPU)

    assert loaded.adapters.active == "lora"
    assert loaded.renderer.render(QUESTION) == expected.renderer.render(QUESTION)
    with_lora = logits(loaded)
    loaded.adapters.use(None)
    torch.testing.assert_close(logits(loaded), logits(expected), atol=1e-5, rtol=0)
    expected.adapters.use(expected.adapters.attach(adapter, any_base=True))
    torch.testing.assert_close(with_lora, logits(expected), atol=1e-5, rtol=0)
    assert not torch.allclose(with_lora, logits(loaded), atol=1e-2)


def test_a_vision_tower_that_is_not_here_is_named(
    parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's config names the tower; the error does too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = shutil.copytree(parts[1], tmp_path / "lora")
    rewrite_config(folder, mm_vision_tower="openai/clip-vit-large-patch14-336")

    with pytest.raises(AdapterBaseMissingError, match=r"needs the model openai/clip-vit-large-patch14-336"):
        load(folder, CPU)


def test_a_lora_without_projector_over_a_plain_llama_is_refused(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    """Without the projector there is no way from the image to the language model."""
    folder = shutil.copytree(parts[1], tmp_path / "lora")
    (folder / "non_lora_trainables.bin").unlink()

    with pytest.raises(AdapterError, match=r"its projector does not fit: .*linear_1\.weight"):
        load(folder, CPU)


def test_attaching_and_detaching_while_answers_are_written(model: LoadedModel, one: Path) -> None:
    """Through the backend an adapter comes and goes between two tokens; its own answers end with a reason."""
    backend = LocalBackend(model)
    plain = answer(backend)
    stream = backend.stream(QUESTION, GenerationOptions(max_new_tokens=8))
    pieces = [event.text for event in stream if isinstance(event, Delta) and backend.adapter_names == ()]
    assert "".join(pieces) == plain

    assert backend.attach_adapter(one) == "one"
    backend.use_adapter("one")
    stream = backend.stream(QUESTION, GenerationOptions(max_new_tokens=8))
    for event in stream:
        if isinstance(event, Delta):
            break
    backend.detach_adapter("one")

    assert backend.adapter_names == ()
    with pytest.raises(BackendUnavailableError, match="adapter was taken off"):
        list(stream)
    assert answer(backend) == plain
