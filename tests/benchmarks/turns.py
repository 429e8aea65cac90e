"""Follow-up questions on a 300M language model with a 576-token image: the cache against recomputing.

The weights are random: only time is measured. The tower is CLIP ViT-L/14 at 336 px, as in BiMediX2.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.checkpoint import LoadedModel
from engine.local import LocalBackend
from engine.messages import Delta, Finished, GenerationOptions, ImagePart, Message
from engine.prompt import PromptProfile, PromptRenderer
from tests.benchmarks.plain import generate_speed
from tests.benchmarks.table import Row
from tests.engine.tiny import build_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

TURNS, TOKENS = 20, 24


def run() -> tuple[str, list[Row]]:
    """Measure twenty turns with the cache, and turn 5 without; decoding against generate and matvec."""
    import torch

    loaded = _random_model()
    backend = LocalBackend(loaded)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    conversation = [Message.of("user", ImagePart(pixels), "Which side is the lesion on?")]
    first: list[float] = []
    for turn in range(TURNS):
        last, text = _stream(backend, conversation, 8)
        first.append(last.timings.first_token_s or 0.0)
        if turn == 4:
            again, _ = _stream(LocalBackend(loaded), conversation, 2)
            fresh = again.timings.first_token_s or 0.0
        conversation.append(Message.of("assistant", text))
        conversation.append(Message.of("user", f"And what about region {turn}?"))
    rows = [
        Row("time to first token, turn 1 (image read)", first[0], "s"),
        Row("time to first token, turn 2", first[1], "s"),
        Row("time to first token, turn 5", first[4], "s", fresh, "recomputed"),
        Row("time to first token, turn 20", first[19], "s"),
        *_decoding(loaded, conversation[:1]),
    ]
    return f"Turns of a 312M model, {torch.get_num_threads()} thread(s), float32", rows


def _random_model() -> LoadedModel:
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": 22,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "vocab_size": 32000,
            "max_position_embeddings": 8192,
        },
        image_token_id=tokenizer.token_to_id("<image>"),
        image_seq_length=576,
    )
    image_id = tokenizer.token_to_id("<image>")
    profile = PromptProfile(image_token_id=image_id, image_length=576, context_length=8192)
    return LoadedModel(
        name="random",
        model=LlavaForConditionalGeneration(config).eval(),
        renderer=PromptRenderer(tokenizer, profile),
        image_processor=LlavaImageProcessorPil(
            do_pad=True, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=tokenizer,
        stop_ids=frozenset(),
        # ids without a text would make answers that cannot be told apart
        suppressed_ids=(image_id, *range(tokenizer.get_vocab_size(), 32000)),
        device=torch.device("cpu"),
        dtype=torch.float32,
        reason="benchmark",
    )


def _stream(backend: LocalBackend, messages: Sequence[Message], tokens: int) -> tuple[Finished, str]:
    *events, last = backend.stream(messages, GenerationOptions(max_new_tokens=tokens))
    assert isinstance(last, Finished)
    return last, "".join(event.text for event in events if isinstance(event, Delta))


def _decoding(loaded: LoadedModel, messages: list[Message]) -> list[Row]:
    ours, plain, bandwidth = [], [], []
    backend = LocalBackend(loaded)
    for _ in range(3):
        last, _ = _stream(backend, messages, TOKENS)
        ours.append((TOKENS - 1) / (last.timings.total_s - (last.timings.first_token_s or 0.0)))
        plain.append(generate_speed(loaded, messages, TOKENS))
        bandwidth.append(_matvec_bytes_per_s())
    language = loaded.model.model.language_model
    weights = [*language.layers.parameters(), *loaded.model.lm_head.parameters()]
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    speed = statistics.median(ours)
    share = speed * size / statistics.median(bandwidth) * 100
    return [
        Row("decoding", speed, "tokens/s", statistics.median(plain), "generate", more_is_better=True),
        Row("weights read while decoding, of torch's matvec bandwidth", share, "%"),
    ]


def _matvec_bytes_per_s() -> float:
    """Bytes a second torch reads when it multiplies a matrix far larger than the caches by a vector."""
    import torch

    matrix, vector = torch.randn(8192, 8192), torch.randn(8192)
    best: Any = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        torch.mv(matrix, vector)
        best = min(best, time.perf_counter() - began)
    return matrix.numel() * 4 / float(best)
