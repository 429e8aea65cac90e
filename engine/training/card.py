# ruff: noqa: E501  (sentences and patterns stay whole)
"""The demonstration model's card: ``README.md`` beside its weights, written from its evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["write_card"]

_TEXT = """---
license: apache-2.0
language: [en, ar]
pipeline_tag: image-text-to-text
---

# Demonstration model

**A demonstration model, not BiMediX2, and not for clinical use.** It is a very small LLaVA that shows the whole
workstation working, in English and Arabic, on any machine, with no download. It has only ever seen drawings. What it
says about a real image shows how the program works, not what is in the patient.

## What it is

- Structure: `LlavaForConditionalGeneration`: a CLIP-style vision transformer (192 x 192 pixels, patches of 16, width
  192, 6 layers of which the fifth is read, as in LLaVA 1.5), a projector of two linear layers with GELU, and a Llama
  (width 256, 4 layers, 4 heads, 2 key-value heads, vocabulary 2304, context 2048). 6.5 million parameters, bfloat16.
- Tokenizer: byte-level BPE with Llama 3's split and control tokens; `<image>` is a renamed reserved token. Any
  text goes through, known words in few tokens.
- Data: procedural drawings (`engine/training/anatomy.py`, `phantoms.py`) of CT of head, chest, abdomen and spine, MR of
  head, abdomen, spine and a limb, chest radiograph, histology, fundus, ultrasound and bone scan, and pictures that show
  nothing; templated dialogue in both languages (`dialogue.py`, `phrases.py`, `answers.py`). No patient data, no
  downloaded data, no output of another model.
- A "lesion" is a drawn blob with a rim of the opposite tone. Left and right are sides of the *image*.

## Training

`make demo-model` (`python -m engine.training.demo_model`), CPU only:

1. vision tower from random weights: for each patch "does it touch the lesion?" and the words that describe the picture;
2. language model and projector from random weights on packed conversations of up to five turns, words that carry what
   is seen weighing 10 times;
3. BiMediX2's stage 1: the projector alone on plain picture-caption pairs;
4. BiMediX2's stage 2: LoRA (rank 8, alpha 16) on the language model, merged.

{training}

## Figures

Exact answers in percent (letter for letter, greedy, the product's own prompt, its own earlier answers as history) on
{pictures} held-out drawings of seed {seed} and {questions} questions in wordings never trained on:

{table}

With another picture in its place the description changes: blank {blank:.0%}, noise {noise:.0%}.
All figures by cell: `evaluation.json`. {real}

## What it cannot do

- Anything medical: no diagnosis, no treatment, no measurement. It refuses such questions in the wordings it knows, and
  may answer wrongly in others.
- Real lesions: it knows only the drawn ones. On real images it may name modality and region; the rest is chance.
- Free conversation: questions far from the known ones get the answer to the nearest known one.
- It knows only the kinds of image listed above, and at most five turns were trained.

Licence: Apache-2.0, like the rest of this repository.
"""


def write_card(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write ``README.md`` from the values of ``evaluation.json``."""
    note = figures.get("training_note") or (
        f"This run: seed {figures.get('training_seed')}, {figures.get('training_minutes', '?')} minutes of wall time."
    )
    changes = figures["answer_changes_without_the_picture"]
    text = _TEXT.format(
        training=note,
        pictures=figures["pictures"],
        seed=figures["seed"],
        questions=figures["questions"],
        table=figures["table"],
        blank=changes["blank"],
        noise=changes["noise"],
        real=figures.get("real_images", "Real images: see `tests/engine/evaluation`."),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
