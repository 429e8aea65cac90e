"""Precision and size: quantised models stay close, and what does not fit is refused before loading."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

import engine.memory
from engine.checkpoint import LoadOptions, LoadProgress, load
from engine.errors import CheckpointError, NotEnoughMemoryError, NothingFitsError, QuantisationError
from engine.keys_values import KeyValueState
from engine.local import LocalBackend
from engine.memory import memory_free, memory_needed
from engine.messages import Delta, GenerationOptions, Message
from tests.engine.test_adapters import build_adapter
from tests.engine.tiny import build_original, build_phi3v, random_image

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from engine.checkpoint import LoadedModel

QUESTION = [Message.of("user", random_image(1), "Which side?")]
FLOAT = LoadOptions(device="cpu", dtype="float32", threads=1)
INT8 = LoadOptions(device="cpu", quantisation="cpu-int8", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_original(tmp_path_factory.mktemp("original"))


def last_logits(loaded: LoadedModel) -> torch.Tensor:
    import torch

    computer = LocalBackend(loaded)._device
    rendered = loaded.renderer.render(QUESTION)
    with torch.inference_mode():
        images = {image.digest: image for image in QUESTION[0].images}
        embedded = computer.embed_prompt(rendered, images, 0, len(rendered.ids))
        return computer.logits(embedded, KeyValueState())


def answer(loaded: LoadedModel) -> str:
    events = LocalBackend(loaded).stream(QUESTION, GenerationOptions(max_new_tokens=6))
    return "".join(event.text for event in events if isinstance(event, Delta))


def rounded(values: torch.Tensor) -> torch.Tensor:
    """Round each row to 127 steps either side of zero, and back."""
    largest = values.abs().amax(-1, keepdim=True)
    return (values / largest * 127).round() / 127 * largest


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(1,), (3,), (2, 40)])
def test_an_int8_layer_rounds_each_vector_and_each_output(rows: tuple[int, ...], *, bias: bool) -> None:
    """Equal to rounding both sides by hand, to a thousandth of the result's spread."""
    import torch

    from engine.int8 import Int8Linear

    torch.manual_seed(len(rows))
    layer = torch.nn.Linear(96, 17, bias=bias)
    given = torch.randn(*rows, 96) * torch.logspace(-3, 3, rows[-1])[:, None]
    expected = rounded(given) @ rounded(layer.weight.detach()).T + (layer.bias.detach() if bias else 0)

    found = Int8Linear(layer)(given)

    assert found.shape == (*rows, 17)
    spread = expected.std(-1, keepdim=True)
    assert ((found - expected).abs() < 1e-3 * spread).all()


def test_an_int8_layer_gives_a_vector_the_same_whatever_is_beside_it() -> None:
    """Bit for bit, next to vectors a million times as large, and a zero vector gives zero."""
    import torch

    from engine.int8 import Int8Linear

    torch.manual_seed(0)
    layer = Int8Linear(torch.nn.Linear(64, 33, bias=False))
    vector = torch.randn(1, 64)
    beside = torch.cat([vector, torch.randn(5, 64) * 1e6, torch.zeros(1, 64)])

    assert torch.equal(layer(beside)[:1], layer(vector))
    assert not layer(beside)[-1].any()


def test_int8_on_the_cpu_stays_close(folder: Path) -> None:
    """Within a tenth of the logits' spread, and not the same."""
    import torch

    whole, ours = load(folder, FLOAT), load(folder, INT8)
    exact, found = last_logits(whole), last_logits(ours)
    finite = exact.isfinite()

    assert not torch.equal(found, exact)
    assert (found - exact)[finite].std() < 0.1 * exact[finite].std()
    assert "int8" in ours.reason


def test_int8_on_the_cpu_leaves_no_linear_layer_of_the_language_model(folder: Path) -> None:
    """All of them are int8; the vision tower and the projector are whole."""
    import torch

    model = load(folder, INT8).model
    left = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]

    assert left
    assert all("vision_tower" in name or "projector" in name for name in left)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_int8_on_the_cpu_answers_and_repeats(folder: Path, tmp_path: Path) -> None:
    """Both structures answer through the backend, the same each time."""
    for source in (folder, build_phi3v(tmp_path)):
        loaded = load(source, INT8)
        assert answer(loaded) == answer(loaded)


def test_an_adapter_is_merged_before_int8(tiny_folder: Path, tmp_path: Path) -> None:
    """An adapter's folder with int8 on the CPU opens merged; attaching one later is refused."""
    import torch

    adapter = build_adapter(tmp_path / "one", tiny_folder, 1)
    merged, base = load(adapter, INT8), load(tiny_folder, INT8)

    assert merged.adapters.names == ()
    assert merged.cache_key != base.cache_key
    assert not torch.allclose(last_logits(merged), last_logits(base), atol=0.1)
    with pytest.raises(CheckpointError, match="cannot be attached"):
        base.adapters.attach(adapter)


def test_unknown_and_missing_quantisations_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name lists the known ones; a missing library says how to install it."""
    with pytest.raises(QuantisationError, match="expected none, int8, int4, cpu-int8"):
        load(folder, LoadOptions(device="cpu", quantisation="int3"))  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(QuantisationError, match=r"pip install .*\[quant\]"):
        load(folder, LoadOptions(device="cpu", quantisation="int4"))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("quantisation", "layers"), [("int8", 2 * 7), ("int4", 2 * 4)])
def test_bitsandbytes_quantises_the_language_model_alone(
    folder: Path, tmp_path: Path, quantisation: str, layers: int
) -> None:
    """On the CPU too: its layers in the language model, none in the tower, the projector or the output."""
    import bitsandbytes
    import torch

    # int4 shares a scale among 64 weights, for which the other tiny model is too narrow
    source = folder if quantisation == "int8" else build_phi3v(tmp_path)
    loaded = load(source, LoadOptions(device="cpu", dtype="float32", quantisation=quantisation))  # type: ignore[arg-type]
    kinds = (bitsandbytes.nn.Linear8bitLt, bitsandbytes.nn.Linear4bit)
    quantised = [name for name, layer in loaded.model.named_modules() if isinstance(layer, kinds)]

    assert len(quantised) == layers
    assert all(name.startswith("model.language_model.layers.") for name in quantised)
    exact, found = last_logits(load(source, FLOAT)), last_logits(loaded)
    finite = exact.isfinite()
    assert (found - exact)[finite].std() < 0.6 * exact[finite].std()
    assert not torch.equal(found, exact)
    assert answer(loaded) == answer(loaded)


def test_split_over_devices_gives_the_same_logits(folder: Path) -> None:
    """Placed by accelerate, here on the one device there is, nothing changes."""
    import torch

    split, whole = load(folder, LoadOptions(device="split", dtype="float32")), load(folder, FLOAT)

    # not bitwise: where a file's bytes lie in memory decides which kernel multiplies them
    torch.testing.assert_close(last_logits(split), last_logits(whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize("structure", ["llava", "phi3_v"])
def test_a_model_whose_weights_lie_elsewhere_answers_the_same(
    folder: Path, tmp_path: Path, structure: str
) -> None:
    """With every weight kept apart and fetched layer by layer, as accelerate does, logits are equal."""
    import torch
    from accelerate import cpu_offload

    loaded = load(folder if structure == "llava" else build_phi3v(tmp_path), FLOAT)
    expected, said = last_logits(loaded), answer(loaded)

    cpu_offload(loaded.model, torch.device("cpu"))

    assert {parameter.device.type for parameter in loaded.model.parameters()} == {"meta"}
    torch.testing.assert_close(last_logits(loaded), expected, atol=1e-5, rtol=0)
    assert answer(loaded) == said


def big_folder(folder: Path) -> tuple[Path, dict[str, object]]:
    """Write the headers of a checkpoint of 8B size over files without bytes."""
    import json
    import struct

    folder.mkdir()
    shapes = {"lm_head.weight": [128256, 4096], "model.embed_tokens.weight": [128256, 4096]}
    for layer in range(32):
        base = f"model.layers.{layer}."
        shapes |= {
            base + "self_attn.q_proj.weight": [4096, 4096],
            base + "self_attn.k_proj.weight": [1024, 4096],
            base + "self_attn.v_proj.weight": [1024, 4096],
            base + "self_attn.o_proj.weight": [4096, 4096],
            base + "mlp.gate_proj.weight": [14336, 4096],
            base + "mlp.up_proj.weight": [14336, 4096],
            base + "mlp.down_proj.weight": [4096, 14336],
        }
    header, position = {}, 0
    for name, shape in shapes.items():
        size = shape[0] * shape[1] * 2
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + position)  # a hole: takes no room on the disk
    config = {
        "model_type": "llava_llama",
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
    }
    return folder, config


def test_memory_needed_of_8b(tmp_path: Path) -> None:
    """8.03 G parameters: 16.06 GB in bfloat16 and 0.54 GB of keys and values, and so on, plus a twentieth."""
    folder, config = big_folder(tmp_path / "8b")
    linear, rest = 6_979_321_856, 1_050_673_152
    half = linear + rest
    expected = {
        ("bfloat16", "none"): (2 * half, 0.537e9),
        ("float32", "none"): (4 * half, 1.074e9),
        ("bfloat16", "int8"): (linear + 2 * rest, 0.537e9),
        ("bfloat16", "int4"): (linear * 0.5625 + 2 * rest, 0.537e9),
        ("float32", "cpu-int8"): (linear + rest / 2 + 4 * rest / 2, 1.074e9),
    }
    for (dtype, way), (weights, cache) in expected.items():
        found = memory_needed(folder, config, dtype, way)
        assert found == pytest.approx(weights * 1.05 + cache + 0.3e9, rel=0.001), (dtype, way)


@pytest.mark.parametrize(
    ("device", "free", "needed", "fitting"),
    [
        ("cpu", 20e9, "35.1 GB", ["bfloat16 (17.7 GB)", "cpu-int8 (11.5 GB)"]),
        ("cpu", 12e9, "35.1 GB", ["cpu-int8 (11.5 GB)"]),
        ("cpu", 9.5e9, "35.1 GB", ["MBZUAI/BiMediX2-4B"]),
        ("cuda", 12e9, "17.7 GB", ["int8 (10.4 GB)", "int4 (7.2 GB)"]),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, free: float, needed: str, fitting: list[str]
) -> None:
    """Both numbers are named, and the precisions or the model that would fit, on the CPU and on a GPU."""
    import torch

    from engine.weights import Placement

    folder, config = big_folder(tmp_path / "8b")
    monkeypatch.setattr(engine.memory, "_ram_free", lambda: int(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _=None: (int(free), int(24e9)))
    dtype = torch.float32 if device == "cpu" else torch.bfloat16

    with pytest.raises(NotEnoughMemoryError) as caught:
        engine.memory.check_memory("8b", folder, config, Placement(torch.device(device), dtype))

    assert caught.value.values["needed"] == needed
    assert caught.value.values["found"] == f"{free / 1e9:.1f} GB"
    assert caught.value.values["place"] == ("RAM" if device == "cpu" else "VRAM")
    offered = str(caught.value.values["fitting"]).split(", ")
    assert [offer for offer in fitting if not any(offer in known for known in offered)] == []
    assert len(offered) == len(fitting) + (fitting[0].startswith("MBZUAI"))


def test_loading_asks_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """load() refuses before any weight is read, and can be told not to ask."""
    monkeypatch.setattr(engine.memory, "_ram_free", lambda: 1000)
    monkeypatch.setattr("engine.checkpoint.load_weights", pytest.fail)

    with pytest.raises(NothingFitsError, match=r"needs about 0\.3 GB of RAM, and 0\.0 GB are free"):
        load(folder, FLOAT)
    monkeypatch.undo()
    monkeypatch.setattr(engine.memory, "_ram_free", lambda: 1000)
    assert load(folder, LoadOptions(device="cpu", check_memory=False)).model is not None


def test_split_counts_every_card_and_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cards and main memory add up."""
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10, 20))
    monkeypatch.setattr(engine.memory, "_ram_free", lambda: 5)

    assert memory_free(torch.device("cuda:0"), split=True) == (25, "VRAM + RAM")


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than the machine has may be allowed; files kept in memory count as free."""
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 50000\ninactive_file 150000\n")
    monkeypatch.setattr(engine.memory, "_CGROUP", tmp_path)

    assert engine.memory._ram_free() == 600000
    (tmp_path / "memory.max").write_text("max\n")
    assert engine.memory._ram_free() > 1000000


def test_progress_reaches_the_end(folder: Path) -> None:
    """Told from nothing to all tensors, never backwards, with seconds that end at zero."""
    seen: list[LoadProgress] = []

    load(folder, FLOAT, seen.append)

    assert (seen[0].done, seen[-1].done) == (0, seen[-1].total)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].seconds_left == 0
