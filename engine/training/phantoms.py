"""Procedural pictures with known truth: the only images the demonstration model is trained on.

:func:`draw_attributes` chooses what a picture shows, :func:`render` draws it. Both depend only on the
``random.Random`` given, so equal seeds give equal bytes. Side words mean the side *of the image*.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from engine.training.anatomy import KIND_BY_NAME, KINDS, Canvas, smooth_noise

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

__all__ = ["NOTHING", "Attributes", "Phantom", "draw_attributes", "render"]

NOTHING = "nothing"
"""Kind of a picture that shows no examination."""
_LONGER_SIDE = 224
_SMALL, _LARGE = (0.03, 0.041), (0.075, 0.105)
_KIND_WEIGHTS = {
    "ct_head": 1.3,
    "mr_head": 1.5,
    "chest_film": 1.2,
    "bone_scan": 0.5,
    "ct_spine": 0.8,
    "mr_limb": 0.8,
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """Everything a question can be about; a word that does not apply is an empty string."""

    kind: str
    modality: str
    body: str
    plane: str
    contrast: str
    quality: str
    """``good`` or ``noisy``."""
    lesion: bool
    side: str
    """``left`` or ``right`` of the image."""
    size: str
    """``small`` or ``large``."""
    tone: str
    """``bright`` or ``dark`` against its surroundings."""

    @property
    def recognisable(self) -> bool:
        """Whether the picture shows an examination."""
        return self.kind != NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A rendered picture.

    Parameters
    ----------
    attributes : Attributes
        What it shows.
    pixels : ndarray of uint8, shape (rows, columns, 3)
        RGB.
    lesion_box : tuple of float
        Centre x, centre y and radius in parts of the image's width, height and longer side; zeros
        without a lesion.
    """

    attributes: Attributes
    pixels: NDArray[np.uint8]
    lesion_box: tuple[float, float, float]


def draw_attributes(random: Random, nothing: float = 0.08) -> Attributes:
    """Choose what a picture shows; ``nothing`` is the share of unrecognisable ones."""
    if random.random() < nothing:
        return Attributes(NOTHING, "", "", "", "", "", lesion=False, side="", size="", tone="")
    kind = random.choices(KINDS, [_KIND_WEIGHTS.get(kind.name, 1.0) for kind in KINDS])[0]
    lesion = bool(kind.tones) and random.random() < 0.65
    return Attributes(
        kind=kind.name,
        modality=kind.modality,
        body=kind.body,
        plane=random.choice(kind.planes),
        contrast=random.choice(kind.contrasts),
        quality=random.choices(("good", "noisy"), (0.65, 0.35))[0],
        lesion=lesion,
        side=random.choice(("left", "right")) if lesion else "",
        size=random.choice(("small", "large")) if lesion else "",
        tone=random.choice(kind.tones) if lesion else "",
    )


def render(attributes: Attributes, random: Random) -> Phantom:
    """Draw a picture with these attributes; 40 to 512 pixels on its longer side."""
    if not attributes.recognisable:
        return Phantom(attributes, _nothing(random), (0.0, 0.0, 0.0))
    kind = KIND_BY_NAME[attributes.kind]
    low, high = kind.aspects
    aspect = float(np.exp(random.uniform(np.log(low), np.log(high))))
    width, height = _sides(aspect, _LONGER_SIDE)
    canvas = Canvas(width, height, random, colour=kind.colour, ground=kind.ground)
    kind.draw(canvas, attributes.plane, attributes.contrast)
    box = _lesion(canvas, attributes, kind.field) if attributes.lesion else (0.0, 0.0, 0.0)
    pixels = _develop(canvas, attributes, random)
    return Phantom(attributes, pixels, box)


def _sides(aspect: float, longer: int) -> tuple[int, int]:
    return (
        (longer, max(24, round(longer / aspect)))
        if aspect >= 1
        else (max(24, round(longer * aspect)), longer)
    )


def _lesion(
    canvas: Canvas, attributes: Attributes, field: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    """Paint a lesion on its side of the image; its tone is relative to what lies under it."""
    random = canvas.random
    sign = -1 if attributes.side == "left" else 1
    longer = max(canvas.width, canvas.height)
    radius = random.uniform(*(_SMALL if attributes.size == "small" else _LARGE)) * longer
    x = (
        (1 + sign * max(random.uniform(*field[:2]), (radius * 0.75 + 6) / (canvas.width / 2)))
        / 2
        * canvas.width
    )
    y = (1 + random.uniform(*field[2:])) / 2 * canvas.height
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    wobble = 1 + 0.12 * np.sin(3 * angles + random.uniform(0, 6)) + random.uniform(-0.08, 0.08)
    stretch = random.uniform(0.85, 1.18)
    pen = ImageDraw.Draw(canvas.image)
    core, rim = _lesion_paints(canvas, attributes, (x, y), radius)
    for reach, paint in ((radius + max(2.0, radius * 0.2), rim), (radius, core)):
        outline = [
            (float(x + np.cos(a) * reach * w * stretch), float(y + np.sin(a) * reach * w / stretch))
            for a, w in zip(angles, wobble, strict=True)
        ]
        pen.polygon(outline, fill=canvas.paint(paint))
    return (x / canvas.width, y / canvas.height, radius / longer)


def _lesion_paints(
    canvas: Canvas, attributes: Attributes, centre: tuple[float, float], radius: float
) -> tuple[int | tuple[int, int, int], int | tuple[int, int, int]]:
    """Paint of the lesion and of the rim around it, which is its opposite: what tells it from anatomy."""
    random = canvas.random
    bright = attributes.tone == "bright"
    if attributes.kind == "histology":
        return (canvas.grey(65, 15), canvas.grey(20, 12), canvas.grey(85, 18)), (250, 240, 250)
    if attributes.kind == "fundus":
        light = (250, canvas.grey(225, 15), canvas.grey(130, 25))
        deep = (canvas.grey(75, 15), canvas.grey(15, 8), canvas.grey(15, 8))
        return (light, deep) if bright else (deep, light)
    x, y = centre
    box = (int(x - radius), int(y - radius), int(x + radius) + 1, int(y + radius) + 1)
    level = float(np.median(np.asarray(canvas.image.crop(box))))
    step = random.uniform(100, 150)
    light_level, dark_level = int(min(255, max(level + step, 185))), int(max(0, min(level - step, 45)))
    return (light_level, dark_level) if bright else (dark_level, light_level)


def _develop(canvas: Canvas, attributes: Attributes, random: Random) -> NDArray[np.uint8]:
    """Blur, texture, window, noise, marks, borders, resampling, JPEG: what a real file went through."""
    image = canvas.image.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.3)))
    values: NDArray[np.floating] = np.asarray(image, dtype=np.float32)
    values = values if values.ndim == 3 else values[..., None]
    height, width = values.shape[:2]
    texture = smooth_noise(random, height, width, random.uniform(3, 9)) * random.uniform(2, 9)
    shade = smooth_noise(random, height, width, 120) * random.uniform(0, 0.12)
    inside = np.clip(values / 40, 0, 1)
    values = (values + texture[..., None] * inside) * (1 + shade[..., None])
    generator = np.random.default_rng(random.getrandbits(32))
    if attributes.kind == "ultrasound":
        values = values * generator.gamma(8.0, 1 / 8.0, (height, width, 1)).astype(np.float32)
    gain, shift, gamma = random.uniform(0.85, 1.15), random.uniform(-12, 12), random.uniform(0.8, 1.25)
    values = 255 * (np.clip(values * gain + shift * inside, 0, 255) / 255) ** gamma
    sigma = random.uniform(38, 56) if attributes.quality == "noisy" else random.uniform(0, 5)
    noise = generator.standard_normal((height, width, 1), dtype=np.float32)
    values = np.clip(values + noise * sigma, 0, 255)
    pixels = Image.fromarray(np.broadcast_to(values, (height, width, 3)).astype(np.uint8))
    pixels = _decorate(pixels, random, colour=canvas.colour)
    return np.asarray(_resample(pixels, attributes, random))


def _decorate(image: Image.Image, random: Random, *, colour: bool) -> Image.Image:
    """Orientation letters, a scale and plain borders, placed away from the lesion fields."""
    pen = ImageDraw.Draw(image)
    width, height = image.size
    level = (random.choice((255, 230, 180)),) * 3
    if not colour and random.random() < 0.3:
        for mark, place in (
            ("R", (3, height // 2)),
            ("L", (width - 10, height // 2)),
            ("A", (width // 2, 1)),
        ):
            pen.text(place, mark, fill=level)
    if random.random() < 0.15:
        pen.text((3, height - 12), random.choice(("R", "L", "W 400 L 40", "Se 3 Im 21", "5 cm")), fill=level)
    if not colour and random.random() < 0.15:
        for step in range(6):
            pen.line([width - 5, height // 4 + step * 12, width - 1, height // 4 + step * 12], fill=level)
    if random.random() < 0.15:
        border = random.randint(2, 10)
        paint = random.choice(((0, 0, 0), (0, 0, 0), (255, 255, 255), (60, 60, 60)))
        framed = Image.new("RGB", (width + 2 * border, height + 2 * border), paint)
        framed.paste(image, (border, border))
        return framed.resize((width, height))
    return image


def _resample(image: Image.Image, attributes: Attributes, random: Random) -> Image.Image:
    careful = attributes.size == "small" or attributes.quality == "noisy"
    floor = 0.7 if careful else 0.4
    scale = random.choice((1.0, random.uniform(floor, 1.0), random.uniform(1.0, 2.2)))
    method = random.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX))
    size = (max(24, round(image.width * scale)), max(24, round(image.height * scale)))
    image = image if scale == 1.0 else image.resize(size, method)
    if random.random() < 0.25:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=random.randint(35, 92))
        image = Image.open(stream).convert("RGB")
    return image


def _nothing(random: Random) -> NDArray[np.uint8]:
    """Draw what is no examination: a plain area, noise, a gradient, shapes or a test pattern."""
    width, height = _sides(random.uniform(0.6, 1.7), random.randint(64, 256))
    generator = np.random.default_rng(random.getrandbits(32))
    style = random.choice(("plain", "plain", "noise", "gradient", "shapes", "grid", "clouds", "text"))
    colour = (
        tuple(random.randint(0, 255) for _ in range(3))
        if random.random() < 0.5
        else (random.randint(0, 255),) * 3
    )
    if random.random() < 0.2:
        colour = random.choice(((0, 0, 0), (255, 255, 255), (127, 127, 127), (122, 116, 104)))
    base: NDArray[np.floating] = np.broadcast_to(
        np.array(colour, dtype=np.float32), (height, width, 3)
    ).copy()
    if style == "noise":
        channels = random.choice((1, 3))
        base = np.clip(
            127 + generator.standard_normal((height, width, channels)) * random.uniform(20, 90), 0, 255
        )
        base = np.broadcast_to(base, (height, width, 3))
    elif style == "gradient":
        ramp = (
            np.linspace(0, 255, width)[None, :]
            if random.random() < 0.5
            else np.linspace(255, 0, height)[:, None]
        )
        base = np.broadcast_to(ramp[..., None], (height, width, 3)) * (np.array(colour) / 255 * 0.6 + 0.4)
    elif style == "clouds":
        base = base * 0.5 + 64 + smooth_noise(random, height, width, random.uniform(8, 60))[..., None] * 90
    image = Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)

    def paint() -> tuple[int, ...]:
        return tuple(random.randint(0, 255) for _ in range(3))

    if style == "shapes":
        for _ in range(random.randint(1, 9)):
            x, y = random.uniform(0, width), random.uniform(0, height)
            half = random.uniform(5, 60)
            draw = random.choice((pen.rectangle, pen.rectangle, pen.ellipse))
            draw([x - half, y - half * random.uniform(0.3, 1), x + half, y + half], fill=paint())
    elif style == "grid":
        step = random.randint(6, 40)
        for x in range(0, width, step):
            for y in range(0, height, step):
                if random.random() < 0.5:
                    pen.rectangle(
                        [x, y, x + step, y + step], fill=paint() if random.random() < 0.5 else colour
                    )
    elif style == "text":
        for row in range(4, height, 14):
            pen.text(
                (4, row), "".join(random.choices("abcdefghij klmno pqrst", k=width // 7)), fill=(0, 0, 0)
            )
    return np.asarray(image)
