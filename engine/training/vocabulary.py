"""The demonstration model's tokenizer: Llama 3's way of splitting, a vocabulary of its own."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from engine.prompt import SYSTEM_TEXT
from engine.training.answers import ATTRIBUTE_WORDS, GENERAL_TYPES, IMAGE_TYPES, answer
from engine.training.dialogue import converse, questions
from engine.training.phantoms import draw_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenizers import Tokenizer

__all__ = [
    "BEGIN",
    "CONTROL_TOKENS",
    "END_OF_TURN",
    "IMAGE",
    "PAD",
    "VOCABULARY_SIZE",
    "train_tokenizer",
    "weighted_tokens",
]

VOCABULARY_SIZE = 2304
"""Rows of the embedding: at most 2,276 byte pairs and the control tokens below."""
BEGIN, END_OF_TURN, PAD, IMAGE = "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>", "<image>"
CONTROL_TOKENS = (
    BEGIN,
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    PAD,
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    END_OF_TURN,
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 10)),
    IMAGE,
)
"""Llama 3.1's control tokens; the last reserved one carries the name ``<image>``."""
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_EXTRA = (
    "system",
    "user",
    "assistant",
    SYSTEM_TEXT,
    "0 1 2 3 4 5 6 7 8 9 10 mm cm kg mg",
    "fracture pneumonia oedema haemorrhage infarct liver kidney spleen heart lung brain bone vessel",
    "tumour cyst",
    "كسر ذات الرئة وذمة نزف احتشاء كبد كلية طحال قلب رئة دماغ عظم وعاء ورم كيس",
)


def _texts() -> Iterator[str]:
    """Everything the model is trained to read and write, each wording once, conversations for frequency."""
    random = Random(5)
    for language in ("en", "ar"):
        for kind in (*IMAGE_TYPES, "compare", *GENERAL_TYPES):
            yield from questions(kind, language, held_out=False)
            yield from questions(kind, language, held_out=True)
            for _ in range(12):
                yield answer(kind, language, draw_attributes(random), draw_attributes(random))
    for _ in range(2500):
        for turn in converse([draw_attributes(random)], random, 3):
            yield turn.question
            yield turn.answer
    yield from _EXTRA


def train_tokenizer() -> Tokenizer:
    """Train the byte-level BPE; the same result every time."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(CONTROL_TOKENS),
        min_frequency=2,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS]
    )
    return tokenizer


def weighted_tokens(tokenizer: Tokenizer) -> Sequence[int]:
    """Ids of the tokens that carry what a picture shows."""
    found: set[int] = set()
    for words in ATTRIBUTE_WORDS.values():
        for word in words:
            for text in (word, " " + word):
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                if len(ids) == 1:
                    found.add(ids[0])
    return sorted(found)
