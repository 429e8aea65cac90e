"""``python -m engine.training.demo_model``: train, evaluate and write the demonstration model.

Four phases from random weights: the vision tower alone (in place of CLIP's pre-training), the language
model and the projector together (in place of Llama's), then the two stages of BiMediX2 as
:mod:`engine.training.recipe` has them. The state is saved every two minutes and can be resumed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from engine.prompt import PromptProfile, PromptRenderer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from engine.training.language import Mixture
    from engine.training.packing import PackedBatch
    from engine.training.pictures import PictureBatch
    from engine.training.vision import PictureReader

__all__ = ["Workshop", "main", "train"]

PHASES = ("vision", "language", "align", "tune")
_SHARES = {"vision": 0.45, "language": 0.42, "align": 0.03, "tune": 0.10}
"""Parts of the wall time."""
_DEFAULT_OUT = Path(__file__).parents[2] / "assets" / "demo-model"
_CONTEXT = 2048


@dataclass(slots=True)
class Workshop:
    """Everything a run holds: the model, its tokenizer and its sources of data."""

    seed: int
    tiny: bool = False
    tokenizer: Any = None
    batch: int = 6
    vision_batch: int = 16
    background: bool = True
    mixed: bool = False
    model: Any = field(init=False)
    reader: PictureReader = field(init=False)
    renderer: PromptRenderer = field(init=False)
    weights: torch.Tensor = field(init=False)
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        import torch

        from engine.training.structure import IMAGE_LENGTH, build_model, demo_config
        from engine.training.vision import PictureReader
        from engine.training.vocabulary import (
            BEGIN,
            END_OF_TURN,
            IMAGE,
            PAD,
            VOCABULARY_SIZE,
            train_tokenizer,
            weighted_tokens,
        )

        torch.manual_seed(self.seed)
        self.random = Random(self.seed)
        self.tokenizer = self.tokenizer or train_tokenizer()
        number = self.tokenizer.token_to_id
        config = demo_config(
            VOCABULARY_SIZE, number(IMAGE), number(END_OF_TURN), number(PAD), number(BEGIN), tiny=self.tiny
        )
        self.model = build_model(config)
        self.reader = PictureReader(self.model.model.vision_tower)
        self.renderer = PromptRenderer(self.tokenizer, PromptProfile(number(IMAGE), IMAGE_LENGTH, _CONTEXT))
        self.weights = torch.ones(VOCABULARY_SIZE)
        self.weights[list(weighted_tokens(self.tokenizer))] = 10.0

    def pictures(self, offset: int, size: int) -> Iterator[PictureBatch]:
        """Endless pictures from a seed of their own."""
        from engine.training.pictures import picture_stream

        return picture_stream(self.seed * 1000 + offset, size, background=self.background)

    def conversation_loss(
        self, pictures: Iterator[PictureBatch], mixture: Mixture
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss of one batch of packed conversations."""
        from engine.training.language import packed_batch

        drawn = next(pictures)
        batch, slots = packed_batch(drawn.attributes, self.renderer, self._pad, self.random, mixture)
        return self._loss(drawn, batch, slots)

    def caption_loss(self, pictures: Iterator[PictureBatch]) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss of one batch of plain picture-caption pairs, stage 1's data."""
        from engine.training.answers import caption
        from engine.training.packing import collate, pack
        from engine.training.recipe import plain_sample

        drawn = next(pictures)
        texts = [caption(self.random.choice(("en", "ar")), one) for one in drawn.attributes]
        packs = [pack([plain_sample(self.renderer, str(index), text)]) for index, text in enumerate(texts)]
        return self._loss(drawn, collate(packs, self._pad), list(range(len(packs))))

    @property
    def _pad(self) -> int:
        return int(self.model.config.text_config.pad_token_id)

    def _loss(
        self, drawn: PictureBatch, batch: PackedBatch, slots: list[int]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        from engine.training.language import image_features, packed_loss
        from engine.training.pictures import normalise

        features = image_features(self.model, normalise(drawn.pixels))
        loss, right = packed_loss(self.model, batch, features[slots], self.weights)
        return loss, {"token": right}


def train(
    shop: Workshop, minutes: dict[str, float], folder: Path, *, phases: tuple[str, ...] = PHASES
) -> dict[str, dict[str, float]]:
    """Run phases in order.

    Parameters
    ----------
    shop : Workshop
        Trained in place.
    minutes : dict of str to float
        Wall time of each phase.
    folder : Path
        Where ``state.pt`` is kept.
    phases : tuple of str
        Of ``PHASES``.
    """
    import torch

    def save(phase: str, *, done: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "phase": phase,
            "done": done,
            "model": shop.model.state_dict(),
            "reader": shop.reader.state_dict(),
        }
        shop.tokenizer.save(str(folder / "tokenizer.json"))
        torch.save(state, folder / "state.part")
        (folder / "state.part").replace(folder / "state.pt")

    figures = {}
    for phase in phases:
        print(f"phase {phase}: {minutes[phase]:.1f} minutes", flush=True)
        figures[phase] = _phase(shop, phase, minutes[phase], partial(save, phase))
        save(phase, done=True)
    return figures


def _phase(shop: Workshop, phase: str, minutes: float, save: Any) -> dict[str, float]:
    import torch

    from engine.training.language import Mixture
    from engine.training.loop import cosine, optimisers, run
    from engine.training.recipe import align_projector, fine_tune

    number = PHASES.index(phase)
    if phase == "vision":
        pictures = shop.pictures(number, shop.vision_batch)
        # AdamW: Muon named the kinds sooner but had not found the lesions when it was given up
        made: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(shop.reader.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
        ]
        return run(
            "vision",
            lambda: shop.reader.loss(next(pictures)),
            made,
            minutes,
            schedule=cosine,
            save=save,
            mixed=shop.mixed,
        )
    pictures = shop.pictures(number, shop.batch)
    mixture = Mixture(length=384, turns=3) if shop.tiny else Mixture()
    if phase == "align":
        return align_projector(shop.model, lambda: shop.caption_loss(pictures), minutes, mixed=shop.mixed)
    if phase == "tune":
        return fine_tune(
            shop.model, lambda: shop.conversation_loss(pictures, mixture), minutes, mixed=shop.mixed
        )
    shop.model.model.vision_tower.requires_grad_(False)  # noqa: FBT003
    made = optimisers(shop.model.named_parameters(), 1.5e-3)
    figures = run(
        "language",
        lambda: shop.conversation_loss(pictures, mixture),
        made,
        minutes,
        save=save,
        mixed=shop.mixed,
    )
    shop.model.requires_grad_(True)  # noqa: FBT003
    return figures


def resume(shop: Workshop, folder: Path) -> tuple[str, ...]:
    """Load ``state.pt`` and name the phases still to run."""
    import torch

    state = torch.load(folder / "state.pt", weights_only=True)
    shop.model.load_state_dict(state["model"])
    shop.reader.load_state_dict(state["reader"])
    return PHASES[PHASES.index(state["phase"]) + bool(state["done"]) :]


def _saved_tokenizer(folder: Path | None) -> Any:
    """Return the tokenizer of the run to go on with, if any: its ids belong to the weights."""
    if folder is None:
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def write_evaluation(folder: Path, pictures: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the folder's model, write ``evaluation.json`` and the card's table."""
    from engine.checkpoint import LoadOptions, load
    from engine.evaluation.demo_model import evaluate
    from engine.local import LocalBackend
    from engine.training.card import write_card

    backend = LocalBackend(load(folder, LoadOptions(device="cpu", dtype="float32")))
    figures = evaluate(backend, pictures, report=lambda line: print(line, flush=True))
    text = json.dumps({**facts, **figures}, indent=1, ensure_ascii=False)
    (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    write_card(folder, {**facts, **figures})
    print(figures["table"], flush=True)
    return figures


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.training.demo_model", description=__doc__)
    parser.add_argument("--minutes", type=float, default=90.0, help="wall time of the training (default 90)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 is best on a busy machine")
    parser.add_argument("--out", type=Path, default=_DEFAULT_OUT, help="folder of the finished model")
    parser.add_argument(
        "--work", type=Path, default=Path("build/demo-model"), help="folder of the state while training"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="folder with state.pt to go on from")
    parser.add_argument("--phases", nargs="*", choices=PHASES, help="run only these")
    parser.add_argument("--pictures", type=int, default=150, help="held-out pictures in the evaluation")
    parser.add_argument("--evaluate-only", action="store_true", help="evaluate the folder given with --out")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train, write the folder, evaluate it and write its card."""
    import torch

    from engine.checkpoint import choose_dtype
    from engine.training.export import export_model

    given = _arguments(arguments)
    torch.set_num_threads(given.threads)
    facts: dict[str, Any] = {"training_seed": given.seed}
    if not given.evaluate_only:
        mixed = choose_dtype("auto", torch.device("cpu"))[0] is torch.bfloat16
        shop = Workshop(given.seed, tokenizer=_saved_tokenizer(given.resume), mixed=mixed)
        phases = resume(shop, given.resume) if given.resume else PHASES
        phases = tuple(given.phases) if given.phases else phases
        whole = sum(_SHARES[phase] for phase in phases) or 1.0
        begun = time.monotonic()
        train(
            shop,
            {phase: given.minutes * _SHARES[phase] / whole for phase in phases},
            given.work,
            phases=phases,
        )
        facts["training_minutes"] = round((time.monotonic() - begun) / 60, 1)
        export_model(shop.model.state_dict(), shop.model.config, shop.tokenizer, given.out)
    elif (given.out / "evaluation.json").is_file():
        known = json.loads((given.out / "evaluation.json").read_text(encoding="utf-8"))
        facts |= {
            key: known[key]
            for key in ("training_seed", "training_minutes", "training_note", "real_images")
            if key in known
        }
    write_evaluation(given.out, given.pictures, facts)


if __name__ == "__main__":
    main()
