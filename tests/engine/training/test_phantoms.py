"""Phantoms show what their attributes say."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image

from engine.training.anatomy import KINDS
from engine.training.phantoms import Attributes, draw_attributes, render
from engine.training.pictures import IMAGE_SIDE, PATCH, label_of, lesion_map, normalise, squared


def _plain(kind: str) -> Attributes:
    found = next(one for one in KINDS if one.name == kind)
    return Attributes(
        found.name, found.modality, found.body, found.planes[0], found.contrasts[0], "good",
        lesion=False, side="", size="", tone="",
    )  # fmt: skip


def test_equal_seeds_give_equal_bytes() -> None:
    """Attributes and pixels depend on the seed alone."""
    first, second = (
        [render(draw_attributes(random), random) for _ in range(20)] for random in (Random(4), Random(4))
    )
    for one, other in zip(first, second, strict=True):
        assert one.attributes == other.attributes
        assert one.pixels.tobytes() == other.pixels.tobytes()
    assert (
        render(_plain("ct_head"), Random(1)).pixels.tobytes()
        != render(_plain("ct_head"), Random(2)).pixels.tobytes()
    )


@pytest.mark.parametrize("kind", [one.name for one in KINDS if one.tones])
@pytest.mark.parametrize("side", ["left", "right"])
def test_lesion_is_visible_on_its_side(kind: str, side: str) -> None:
    """The lesion's box lies wholly on its side of the image, and a lesion differs from its rim."""
    tone = next(one for one in KINDS if one.name == kind).tones[0]
    wanted = replace(_plain(kind), lesion=True, side=side, size="large", tone=tone)
    for seed in range(4):
        phantom = render(wanted, Random(seed))
        x, y, radius = phantom.lesion_box
        assert (x < 0.5) == (side == "left")
        assert abs(x - 0.5) * phantom.pixels.shape[1] > 4
        assert 0 < y < 1
        height, width = phantom.pixels.shape[:2]
        reach = radius * max(height, width)
        grey = phantom.pixels.astype(float).mean(axis=2)
        rows, columns = np.mgrid[:height, :width]
        distance = np.hypot(columns - x * width, rows - y * height) / reach
        core, around = grey[distance < 0.5].mean(), grey[(distance > 1.0) & (distance < 1.25)].mean()
        assert abs(core - around) > 25


@pytest.mark.parametrize("kind", ["ct_head", "mr_abdomen", "fundus"])
def test_size_words_do_not_overlap(kind: str) -> None:
    """Every small lesion is smaller than every large one, against the longer side."""
    radii = {
        size: [
            render(
                replace(_plain(kind), lesion=True, side="left", size=size, tone="bright"), Random(seed)
            ).lesion_box[2]
            for seed in range(12)
        ]
        for size in ("small", "large")
    }
    assert max(radii["small"]) < 0.75 * min(radii["large"])


def test_noise_is_measurable() -> None:
    """A noisy picture has more fine grain than a good one of the same kind."""
    grain = {}
    for quality in ("good", "noisy"):
        pixels = [
            render(replace(_plain("ct_head"), quality=quality), Random(seed)).pixels for seed in range(8)
        ]
        grain[quality] = [float(np.abs(np.diff(one.astype(float), axis=1)).mean()) for one in pixels]
    assert max(grain["good"]) < np.median(grain["noisy"])


def test_enhanced_vessels_are_brighter() -> None:
    """Contrast changes the picture: more bright pixels in an enhanced abdomen of the same seed."""
    plain, enhanced = (
        np.mean(
            [
                (render(replace(_plain("ct_abdomen"), contrast=word), Random(seed)).pixels > 190).mean()
                for seed in range(6)
            ]
        )
        for word in ("plain", "enhanced")
    )
    assert enhanced > plain


def test_words_cover_all_kinds_and_shapes() -> None:
    """A few hundred draws hold every kind, both sides, both sizes, and pictures that are not square."""
    random = Random(9)
    drawn = [draw_attributes(random) for _ in range(500)]
    assert {one.kind for one in drawn} == {kind.name for kind in KINDS} | {"nothing"}
    assert {(one.side, one.size) for one in drawn if one.lesion} == {
        (side, size) for side in ("left", "right") for size in ("small", "large")
    }
    ratios = [render(one, random).pixels.shape[1] / render(one, random).pixels.shape[0] for one in drawn[:60]]
    assert min(ratios) < 0.8
    assert max(ratios) > 1.4


def test_lesion_map_lies_on_the_lesion_after_padding() -> None:
    """Marked patches of the padded square centre on the lesion; nothing is marked without one."""
    wanted = replace(_plain("mr_spine"), lesion=True, side="right", size="large", tone="bright")
    across = IMAGE_SIDE // PATCH
    for seed in range(6):
        phantom = render(wanted, Random(seed))
        marked = lesion_map(phantom).reshape(across, across)
        _, columns = np.nonzero(marked)
        height, width = phantom.pixels.shape[:2]
        side = max(height, width)
        expected = (phantom.lesion_box[0] * width + (side - width) / 2) / side
        assert abs((columns.mean() + 0.5) / across - expected) < 0.06
        assert columns.mean() + 0.5 > across / 2
    assert not lesion_map(render(_plain("mr_spine"), Random(1))).any()


def test_preprocessing_equals_the_products() -> None:
    """Padding, resizing and normalising give what ``LlavaImageProcessorPil`` gives."""
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )
    generator = np.random.default_rng(3)
    for shape in ((150, 90, 3), (100, 211, 3), (64, 64, 3)):
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        ours = normalise(squared(pixels)[None]).numpy()
        theirs = np.asarray(processor(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"])
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4


def test_labels_name_only_what_applies() -> None:
    """No side, size or tone without a lesion; nothing but the kind for an unrecognisable picture."""
    assert label_of(_plain("ct_head"))[5:] == [-100, -100, -100]
    nothing = Attributes("nothing", "", "", "", "", "", lesion=False, side="", size="", tone="")
    assert label_of(nothing)[3] == -100
