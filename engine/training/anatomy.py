"""What a phantom can be, and how each kind of examination is drawn.

Every drawing works on a :class:`Canvas`: a grey or RGB float image whose longer side is 224 pixels, with
coordinates from -1 to 1 along both axes, x to the right and y downwards. The drawings are caricatures
made from ellipses, strokes and smooth noise; they carry no patient data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from numpy.typing import NDArray

__all__ = ["KINDS", "KIND_BY_NAME", "Canvas", "Kind", "smooth_noise"]

Point = tuple[float, float]


def smooth_noise(random: Random, height: int, width: int, cell: float) -> NDArray[np.float32]:
    """Smooth random field, about -1 to 1, with blobs of ``cell`` pixels; shape (height, width), float32."""
    generator = np.random.default_rng(random.getrandbits(32))
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    coarse = generator.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


class Canvas:
    """A drawing surface in coordinates -1 to 1.

    Parameters
    ----------
    width, height : int
        Size in pixels.
    random : random.Random
        Source of all variation.
    colour : bool
        Draw in RGB instead of grey.
    ground : tuple of int
        Colour of the empty canvas, 0-255.
    """

    def __init__(
        self, width: int, height: int, random: Random, *, colour: bool, ground: tuple[int, int, int]
    ) -> None:
        self.random = random
        self.width, self.height, self.colour = width, height, colour
        paint: int | tuple[int, int, int] = ground if colour else ground[0]
        self.image = Image.new("RGB" if colour else "L", (width, height), paint)
        self._pen = ImageDraw.Draw(self.image)

    def near(self, value: float, spread: float = 0.04) -> float:
        """Add uniform jitter to ``value``."""
        return value + self.random.uniform(-spread, spread)

    def grey(self, value: float, spread: float = 8) -> int:
        """Return a grey level with jitter, clipped to 0-255."""
        return int(min(255, max(0, self.near(value, spread))))

    def _xy(self, point: Point) -> Point:
        return ((point[0] + 1) / 2 * self.width, (point[1] + 1) / 2 * self.height)

    def paint(self, level: int | tuple[int, int, int]) -> int | tuple[int, int, int]:
        """Return a colour this canvas takes: grey as three equal parts where it is RGB."""
        if self.colour and isinstance(level, int):
            return (level, level, level)
        return level

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        level: int | tuple[int, int, int] | None,
        *,
        ring: int | tuple[int, int, int] | None = None,
        thickness: int = 2,
    ) -> None:
        """Draw an ellipse, filled or outlined or both."""
        left, top = self._xy((centre[0] - radii[0], centre[1] - radii[1]))
        right, bottom = self._xy((centre[0] + radii[0], centre[1] + radii[1]))
        fill = None if level is None else self.paint(level)
        outline = None if ring is None else self.paint(ring)
        self._pen.ellipse([left, top, right, bottom], fill=fill, outline=outline, width=thickness)

    def stroke(self, points: Sequence[Point], level: int | tuple[int, int, int], thickness: int = 2) -> None:
        """Draw an open polyline."""
        self._pen.line([self._xy(p) for p in points], fill=self.paint(level), width=thickness, joint="curve")

    def area(self, points: Sequence[Point], level: int | tuple[int, int, int]) -> None:
        """Fill a polygon."""
        self._pen.polygon([self._xy(p) for p in points], fill=self.paint(level))

    def bow(
        self, centre: Point, radii: Point, degrees: tuple[float, float], level: int, thickness: int
    ) -> None:
        """Draw part of an ellipse's outline, from one angle to another."""
        left, top = self._xy((centre[0] - radii[0], centre[1] - radii[1]))
        right, bottom = self._xy((centre[0] + radii[0], centre[1] + radii[1]))
        self._pen.arc([left, top, right, bottom], *degrees, fill=self.paint(level), width=thickness)

    def label(self, place: Point, text: str, level: int) -> None:
        """Write a few letters."""
        self._pen.text(self._xy(place), text, fill=self.paint(level))

    def tree(
        self, root: Point, angle: float, length: float, level: int | tuple[int, int, int], depth: int
    ) -> None:
        """Draw a branching vessel."""
        x, y = root
        points = [root]
        for _ in range(3):
            angle += self.random.uniform(-0.3, 0.3)
            x, y = x + np.cos(angle) * length / 3, y + np.sin(angle) * length / 3
            points.append((float(x), float(y)))
        self.stroke(points, level, max(1, depth))
        if depth > 1:
            for turn in (-0.5, 0.45):
                self.tree(points[-1], angle + self.near(turn, 0.25), length * 0.75, level, depth - 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of examination and what can be asked about it."""

    name: str
    modality: str
    body: str
    draw: Callable[[Canvas, str, str], None]
    """Draws the anatomy for a plane and a contrast."""
    field: tuple[float, float, float, float]
    """Where a lesion may lie: least and greatest distance from the midline, least and greatest y."""
    planes: tuple[str, ...] = ("",)
    """Planes a question can be about; an empty string means that the word does not apply."""
    contrasts: tuple[str, ...] = ("",)
    """``plain``/``enhanced`` (CT), ``T1``/``T2`` (MR), or an empty string."""
    tones: tuple[str, ...] = ("bright", "dark")
    """Lesions darker or brighter than their surroundings; empty: drawn without lesions."""
    ground: tuple[int, int, int] = (0, 0, 0)
    colour: bool = False
    aspects: tuple[float, float] = (0.75, 1.35)
    """Least and greatest width / height."""


def _body_outline(c: Canvas, fat: int, muscle: int, shell: int = 0) -> None:
    width, height = c.near(0.86, 0.09), c.near(0.7, 0.12)
    if shell:
        c.ellipse((0, 0), (width + 0.03, height + 0.04), shell)
    c.ellipse((0, 0), (width, height), fat)
    c.ellipse((0, 0.01), (width - c.near(0.08, 0.03), height - c.near(0.09, 0.04)), muscle)


def _table(c: Canvas) -> None:
    if c.random.random() < 0.7:
        y = c.near(0.86, 0.08)
        c.bow((0, y - 0.5), (1.1, 0.55), (20, 160), c.grey(90, 60), c.random.choice((1, 2)))


def _vertebra(c: Canvas, centre: Point, scale: float, bone: int, canal: int) -> None:
    x, y = centre
    c.area(
        [
            (x - 0.55 * scale, y + 1.1 * scale),
            (x, y + 0.9 * scale),
            (x + 0.55 * scale, y + 1.1 * scale),
            (x + 0.12 * scale, y + 1.5 * scale),
            (x, y + 2.1 * scale),
            (x - 0.12 * scale, y + 1.5 * scale),
        ],
        bone,
    )
    for side in (-1, 1):
        c.stroke(
            [(x + side * 0.35 * scale, y + 1.0 * scale), (x + side * 1.3 * scale, y + 1.35 * scale)],
            bone,
            max(2, int(scale * 40)),
        )
    c.ellipse((x, y), (0.62 * scale, 0.72 * scale), max(0, bone - 45), ring=bone, thickness=2)
    c.ellipse((x, y + 0.95 * scale), (0.36 * scale, 0.3 * scale), canal)


def _ct_head(c: Canvas, plane: str, contrast: str) -> None:
    del plane
    a, b = c.near(0.7, 0.09), c.near(0.84, 0.08)
    bone, brain = c.grey(245, 10), c.grey(105, 28)
    if c.random.random() < 0.5:
        c.bow((0, c.near(0.35, 0.1)), (1.02, 0.75), (0, 180), c.grey(180, 70), 2)
    c.ellipse((0, 0), (a + 0.05, b + 0.04), c.grey(70, 35))
    c.ellipse((0, 0), (a, b), bone)
    rim = c.near(0.1, 0.035)
    c.ellipse((0, 0), (a - rim, b - rim), brain)
    for _ in range(26):
        angle = c.random.uniform(0, 6.28)
        c.ellipse(
            (np.cos(angle) * (a - rim - 0.04), np.sin(angle) * (b - rim - 0.04)), (0.03, 0.05), brain - 14
        )
    c.stroke([(0, -b + rim), (0, b - rim)], brain + c.random.choice((-10, 25)), 1)
    dark, gap, size = max(0, brain - c.random.randint(35, 60)), c.near(0.12, 0.03), c.near(1, 0.3)
    for side in (-1, 1):
        c.ellipse((side * gap, -0.2), (0.06 * size, 0.22 * size), dark)
        c.ellipse((side * (gap + 0.06), 0.25), (0.05 * size, 0.17 * size), dark)
    if contrast == "enhanced":
        for side in (-1, 1):
            c.tree((side * 0.06, 0.0), 0.2 if side > 0 else 2.94, 0.3, 235, 3)
        c.stroke([(0, -b + rim), (0, -b + rim + 0.35)], 235, 3)
        c.ellipse((0, b - rim - 0.05), (0.07, 0.06), 240)


def _ct_chest(c: Canvas, plane: str, contrast: str) -> None:
    del plane
    lung_window = c.random.random() < 0.4
    _table(c)
    soft = c.grey(215, 25) if lung_window else c.grey(135, 30)
    lung = c.grey(45, 18) if lung_window else c.grey(8, 8)
    _body_outline(c, c.grey(190, 25) if lung_window else c.grey(60, 20), soft)
    for side in (-1, 1):
        c.ellipse(
            (side * c.near(0.42, 0.04), c.near(-0.03, 0.04)), (c.near(0.27, 0.04), c.near(0.44, 0.06)), lung
        )
    c.ellipse((c.near(0.1, 0.06), c.near(0.02, 0.06)), (c.near(0.24, 0.05), c.near(0.25, 0.05)), soft)
    for side in (-1, 1):
        for _ in range(3):
            c.tree(
                (side * 0.18, c.near(-0.02, 0.15)), 0 if side > 0 else 3.14, c.near(0.16, 0.04), soft - 20, 2
            )
    bone = 250
    _vertebra(c, (0, c.near(0.36, 0.04)), c.near(0.15, 0.02), bone, soft - 10)
    for side in (-1, 1):
        for y in (-0.4, -0.1, 0.25):
            c.ellipse((side * c.near(0.74, 0.04) * (1 - abs(y) * 0.35), y), (0.025, 0.06), bone)
    vessel = (
        235 if contrast == "enhanced" and not lung_window else soft + (25 if contrast == "enhanced" else 0)
    )
    if contrast == "enhanced":
        vessel = 240
    for point, radius in (
        ((0.12, 0.3), 0.075),
        ((-0.02, -0.12), 0.1),
        ((0.12, -0.08), 0.08),
        ((-0.14, -0.1), 0.05),
    ):
        c.ellipse((c.near(point[0], 0.02), c.near(point[1], 0.02)), (radius, radius * 1.1), min(255, vessel))
    c.ellipse((0, 0.12), (0.045, 0.05), lung)


def _ct_abdomen(c: Canvas, plane: str, contrast: str) -> None:
    del plane
    _table(c)
    soft, fat = c.grey(120, 20), c.grey(45, 15)
    _body_outline(c, fat, soft)
    c.ellipse((0, -0.02), (c.near(0.68, 0.04), c.near(0.52, 0.05)), fat + 12)
    lift = 28 if contrast == "enhanced" else 0
    c.ellipse((-0.38, c.near(-0.12, 0.05)), (c.near(0.3, 0.05), c.near(0.34, 0.06)), c.grey(138 + lift, 10))
    c.ellipse((0.5, c.near(-0.1, 0.05)), (0.12, 0.22), c.grey(138 + lift, 10))
    c.ellipse((0.24, c.near(-0.25, 0.05)), (c.near(0.2, 0.05), 0.14), c.grey(105, 15))
    if c.random.random() < 0.5:
        c.ellipse((c.near(0.27, 0.04), -0.33), (0.1, 0.06), 4)
    for _ in range(7):
        c.ellipse((c.near(0.15, 0.35), c.near(0.05, 0.2)), (0.08, 0.06), c.grey(112, 12))
    for side in (-1, 1):
        c.ellipse(
            (side * c.near(0.38, 0.04), c.near(0.3, 0.04)), (0.13, 0.15), 215 if lift else c.grey(125, 8)
        )
        c.ellipse((side * 0.33, 0.3), (0.05, 0.06), fat + 20)
        c.ellipse((side * 0.2, 0.45), (0.14, 0.12), soft)
    vessel = 235 if lift else c.grey(125, 6)
    c.ellipse((0.06, 0.2), (0.06, 0.07), vessel)
    c.ellipse((-0.08, 0.18), (0.06, 0.06), vessel)
    if lift:
        c.tree((-0.2, -0.05), 3.4, 0.2, 205, 3)
    _vertebra(c, (0, c.near(0.37, 0.02)), 0.14, 245, soft)


def _ct_spine(c: Canvas, plane: str, contrast: str) -> None:
    del plane, contrast
    soft = c.grey(105, 22)
    c.image.paste(soft, (0, 0, c.width, c.height))
    if c.random.random() < 0.7:  # a thoracic level: lungs on both sides, the aorta beside the body
        for side in (-1, 1):
            c.ellipse(
                (side * c.near(1.0, 0.06), c.near(-0.5, 0.1)),
                (c.near(0.62, 0.06), c.near(0.62, 0.1)),
                c.grey(12, 10),
            )
        for _ in range(5):
            c.tree((c.random.choice((-0.9, 0.9)), c.near(-0.5, 0.25)), c.random.uniform(0, 6.28), 0.15, 50, 2)
        c.ellipse((c.random.choice((-0.4, 0.4)), c.near(-0.85, 0.1)), (0.3, 0.28), soft + 20)
    c.ellipse((0, 1.1), (1.3, 0.4), soft - 25)
    _vertebra(c, (c.near(0), c.near(-0.45, 0.12)), c.near(0.44, 0.08), c.grey(222, 25), soft)


def _mr_greys(contrast: str, c: Canvas) -> tuple[int, int, int, int]:
    """Levels of fluid, grey matter, white matter and fat."""
    if contrast == "T2":
        return c.grey(245, 8), c.grey(145, 12), c.grey(95, 12), c.grey(190, 30)
    return c.grey(22, 12), c.grey(95, 12), c.grey(150, 14), c.grey(238, 12)


def _mr_head(c: Canvas, plane: str, contrast: str) -> None:
    fluid, grey, white, fat = _mr_greys(contrast, c)
    if plane == "sagittal":
        c.area(
            [(-0.62, -0.1), (-0.8, 0.28), (-0.62, 0.62), (-0.4, 1.1), (0.45, 1.1), (0.5, 0.3)],
            c.grey(120, 30),
        )
        c.ellipse((0, -0.22), (0.8, 0.7), fat)
        c.ellipse((0, -0.22), (0.75, 0.65), 8)
        c.ellipse((0, -0.22), (0.71, 0.61), fluid)
        c.ellipse((0, -0.23), (0.68, 0.58), grey)
        for _ in range(22):
            angle = c.random.uniform(3.0, 6.4)
            c.stroke(
                [
                    (np.cos(angle) * 0.66, -0.22 + np.sin(angle) * 0.57),
                    (np.cos(angle) * 0.4, -0.22 + np.sin(angle) * 0.34),
                ],
                fluid,
                1,
            )
        c.bow((0, -0.1), (0.34, 0.26), (180, 350), white, 7)
        c.ellipse((0, -0.06), (0.26, 0.09), fluid)
        c.ellipse((0.36, 0.22), (0.22, 0.18), grey, ring=fluid)
        c.area([(-0.02, 0.05), (0.16, 0.05), (0.22, 0.5), (0.26, 1.1), (0.12, 1.1), (0.08, 0.5)], white)
        for step in range(4):
            c.ellipse((0.0, 0.62 + step * 0.13), (0.1, 0.05), white - 10)
        return
    a, b = c.near(0.7, 0.07), c.near(0.84, 0.07)
    c.ellipse((0, 0), (a, b), fat)
    c.ellipse((0, 0), (a - 0.05, b - 0.05), 8)
    c.ellipse((0, 0), (a - 0.1, b - 0.1), fluid)
    c.ellipse((0, 0), (a - 0.13, b - 0.13), grey)
    c.ellipse((0, 0), (a - 0.26, b - 0.24), white)
    for _ in range(34):
        angle = c.random.uniform(0, 6.28)
        depth = c.random.uniform(0.6, 0.8)
        end = (np.cos(angle) * (a - 0.13) * depth, np.sin(angle) * (b - 0.13) * depth)
        c.stroke([(np.cos(angle) * (a - 0.12), np.sin(angle) * (b - 0.12)), end], grey, 6)
        c.stroke([(np.cos(angle) * (a - 0.12), np.sin(angle) * (b - 0.12)), end], fluid, 1)
    c.stroke([(0, -b + 0.12), (0, b - 0.12)], fluid, 1)
    size = c.near(1, 0.3)
    for side in (-1, 1):
        c.ellipse((side * 0.27, 0.02), (0.08, 0.13), grey)
        c.ellipse((side * 0.1, -0.18), (0.05 * size, 0.2 * size), fluid)
        c.ellipse((side * 0.15, 0.25), (0.045 * size, 0.17 * size), fluid)


def _mr_abdomen(c: Canvas, plane: str, contrast: str) -> None:
    del plane
    t2 = contrast == "T2"
    suppressed = c.random.random() < 0.5
    fat = c.grey(45, 15) if suppressed else c.grey(215, 20)
    _body_outline(c, fat, c.grey(70, 15), shell=c.grey(120, 30) if suppressed else 0)
    c.ellipse((0, -0.03), (0.66, 0.5), c.grey(35, 10) if suppressed else c.grey(170, 20))
    c.ellipse(
        (-0.36, c.near(-0.1, 0.06)), (c.near(0.31, 0.05), c.near(0.36, 0.06)), c.grey(85 if t2 else 130, 12)
    )
    c.ellipse((0.52, -0.08), (0.12, 0.22), c.grey(170 if t2 else 100, 12))
    c.ellipse((0.22, c.near(-0.25, 0.05)), (0.2, 0.13), c.grey(235 if t2 else 40, 10))
    for side in (-1, 1):
        c.ellipse(
            (side * 0.38, c.near(0.3, 0.04)), (0.13, 0.15), c.grey(190, 15), ring=c.grey(235, 15), thickness=3
        )
    for _ in range(6):
        c.ellipse((c.near(0.15, 0.35), c.near(0.06, 0.16)), (0.08, 0.05), c.grey(220 if t2 else 60, 20))
    flow = c.grey(15, 8) if t2 else c.grey(215, 20)
    c.ellipse((0.06, 0.2), (0.06, 0.07), flow)
    c.ellipse((-0.08, 0.18), (0.06, 0.05), flow)
    c.ellipse((0, 0.38), (0.12, 0.12), c.grey(100, 15))
    c.ellipse((0, 0.53), (0.06, 0.05), c.grey(240 if t2 else 50, 10))
    for side in (-1, 1):
        c.ellipse((side * 0.2, 0.55), (0.15, 0.1), c.grey(55, 10))


def _mr_spine(c: Canvas, plane: str, contrast: str) -> None:
    del plane
    fluid, cord, disc, fat = _mr_greys(contrast, c)
    marrow = c.grey(135, 25)
    bend = c.near(0.0, 0.16)

    def middle(y: float) -> float:
        return bend * (y * y - 0.4)

    c.area([(-1, -1), (1, -1), (1, 1), (-1, 1)], c.grey(50, 18))
    c.area([(0.45, -1), (0.9, -1), (0.95, 1), (0.5, 1)], c.grey(95, 20))
    c.area([(0.85, -1), (1, -1), (1, 1), (0.9, 1)], fat)
    rows = [y / 10 for y in range(-12, 13)]
    c.stroke([(middle(y) + 0.2, y) for y in rows], fluid, 20)
    c.stroke(
        [(middle(y) + 0.2, y) for y in rows if y < c.near(0.5, 0.5)], cord if contrast == "T1" else 110, 9
    )
    count = c.random.randint(6, 9)
    for index in range(count + 1):
        y = -1.05 + index * 2.2 / count
        x, half = middle(y), 2.2 / count
        c.area(
            [
                (x - 0.2, y + 0.05),
                (x + 0.1, y + 0.05),
                (x + 0.1, y + half * 0.75),
                (x - 0.2, y + half * 0.75),
            ],
            marrow,
        )
        c.ellipse(
            (x - 0.05, y - half * 0.08 + 0.02),
            (0.15, half * 0.13),
            disc if contrast == "T1" else c.grey(150, 60),
        )
        c.ellipse((x + 0.46, y + half * 0.5), (0.13, half * 0.25), marrow - 15)


def _mr_limb(c: Canvas, plane: str, contrast: str) -> None:
    del plane
    fat = c.grey(200, 35)
    muscle = c.grey(45, 22) if contrast == "T2" else c.grey(85, 15)
    zoom, dx, dy = c.random.uniform(0.9, 3.3), c.near(0, 0.6), c.near(0, 0.6)

    def place(x: float, y: float) -> Point:
        return (x * zoom + dx, y * zoom + dy)

    c.ellipse(place(0, 0), (0.85 * zoom, 0.85 * zoom), fat)
    for step in range(c.random.randint(6, 9)):
        angle = step * 0.85 + c.near(0, 0.15)
        c.ellipse(
            place(np.cos(angle) * 0.45, np.sin(angle) * 0.45),
            (c.near(0.25, 0.05) * zoom, c.near(0.23, 0.05) * zoom),
            muscle + c.random.randint(-12, 12),
        )
    bone = c.near(0.15, 0.03) * zoom
    c.ellipse(place(0.05, 0.02), (bone, bone), fat - 20, ring=8, thickness=max(3, int(zoom * 4)))
    for _ in range(3):
        x, y = place(c.near(0, 0.35), c.near(0, 0.35))
        c.ellipse((x, y), (0.045 * zoom, 0.05 * zoom), 5 if contrast == "T2" else 20, ring=fat - 30)
        c.stroke([(x, y), (c.near(x, 0.6), c.near(y, 0.6))], fat, 3)


def _chest_film(c: Canvas, plane: str, contrast: str) -> None:
    del plane, contrast
    soft = c.grey(175, 25)
    c.image.paste(c.grey(15, 15), (0, 0, c.width, c.height))
    c.area(
        [
            (-0.9, 1.1),
            (-0.95, -0.4),
            (-0.55, -0.75),
            (-0.18, -0.85),
            (-0.15, -1.1),
            (0.15, -1.1),
            (0.18, -0.85),
            (0.55, -0.75),
            (0.95, -0.4),
            (0.9, 1.1),
        ],
        soft,
    )
    lung = c.grey(55, 25)
    for side, low in ((-1, 0.5), (1, 0.56)):
        x = side * c.near(0.44, 0.03)
        c.ellipse((x, c.near(-0.08, 0.03)), (c.near(0.3, 0.03), c.near(0.6, 0.05)), lung)
        c.ellipse((x, low + 0.18), (0.4, c.near(0.24, 0.04)), soft + 10)
        for step in range(7):
            y = -0.5 + step * 0.16
            c.bow((side * 0.42, y + 0.12), (0.42, 0.14), (185, 355), lung + 38, 2)
        for _ in range(4):
            c.tree(
                (side * 0.16, c.near(-0.02, 0.14)), c.near(0 if side > 0 else 3.14, 0.7), 0.15, lung + 45, 2
            )
        c.stroke([(side * 0.08, -0.66), (side * 0.72, c.near(-0.78, 0.05))], soft + 20, 4)
    c.area([(-0.1, -1.1), (0.1, -1.1), (0.13, 0.5), (-0.13, 0.5)], soft + 25)
    c.ellipse((c.near(0.13, 0.03), c.near(0.28, 0.05)), (c.near(0.3, 0.04), c.near(0.27, 0.04)), soft + 25)
    c.ellipse((0.14, -0.32), (0.09, 0.1), soft + 20)
    for step in range(9):
        c.stroke([(-0.09, -0.8 + step * 0.15), (0.09, -0.8 + step * 0.15)], soft + 5, 1)


def _histology(c: Canvas, plane: str, contrast: str) -> None:
    del plane, contrast
    r = c.random
    immuno = r.random() < 0.35
    ground = (
        (c.grey(238), c.grey(235), c.grey(232)) if immuno else (c.grey(232), c.grey(190, 25), c.grey(215, 15))
    )
    tissue = (
        (c.grey(190, 20), c.grey(150, 20), c.grey(95, 20))
        if immuno
        else (c.grey(220, 12), c.grey(150, 22), c.grey(190, 15))
    )
    nucleus = (
        (c.grey(120, 15), c.grey(130, 15), c.grey(175, 15))
        if immuno
        else (c.grey(110, 20), c.grey(65, 15), c.grey(145, 20))
    )
    c.area([(-1, -1), (1, -1), (1, 1), (-1, 1)], ground)
    between = ((ground[0] + tissue[0]) // 2, (ground[1] + tissue[1]) // 2, (ground[2] + tissue[2]) // 2)
    scale = r.uniform(0.7, 1.6)
    for _ in range(60):
        x, y = c.near(0, 1), c.near(0, 1)
        c.stroke(
            [(x, y), (x + c.near(0.1, 0.1), y + c.near(0.05, 0.1))],
            between,
            3,
        )
    for _ in range(r.randint(3, 9)):
        x, y, size = c.near(0, 0.9), c.near(0, 0.9), r.uniform(0.14, 0.38)
        c.ellipse((x, y), (size, size * r.uniform(0.6, 1.4)), tissue)
        if r.random() < 0.7:
            c.ellipse((x, y), (size * 0.4, size * 0.5), ground)
        for step in range(int(size * 90)):
            angle = step * 6.28 / (size * 90)
            c.ellipse(
                (x + np.cos(angle) * size * 0.75, y + np.sin(angle) * size * 0.75),
                (0.022 * scale, 0.03 * scale),
                nucleus,
            )
    for _ in range(int(170 / scale)):
        size = r.uniform(0.012, 0.024) * scale
        c.ellipse((c.near(0, 1), c.near(0, 1)), (size, size * r.uniform(0.7, 1.6)), nucleus)


def _fundus(c: Canvas, plane: str, contrast: str) -> None:
    del plane, contrast
    r = c.random
    red, green, blue = c.grey(205, 35), c.grey(85, 30), c.grey(40, 22)
    half = r.uniform(0.9, 1.03)
    shrink = min(c.width, c.height)
    rx, ry = half * shrink / c.width, half * shrink / c.height
    c.ellipse((0, 0), (rx, ry), (red, green, blue))
    c.ellipse((0, 0), (rx * 0.8, ry * 0.8), (min(255, red + 10), green + 6, blue + 4))
    side = r.choice((-1, 1))
    disc = (side * r.uniform(0.35, 0.75) * rx, c.near(0, 0.08))
    vessel = (max(0, red - 60), max(0, green - 50), max(0, blue - 15))
    for turn in (-1.2, -0.5, 0.5, 1.2, 2.4, -2.4):
        base = 0.0 if side < 0 else 3.14
        c.tree(
            disc, base + turn * (1 if side < 0 else -1) + c.near(0, 0.15), r.uniform(0.42, 0.62), vessel, 3
        )
    c.ellipse(disc, (0.11, 0.12), (250, min(255, green + 110), min(255, blue + 75)))
    c.ellipse(
        (-side * 0.05, c.near(0, 0.05)),
        (0.11, 0.11),
        (max(0, red - 45), max(0, green - 30), max(0, blue - 10)),
    )


def _ultrasound(c: Canvas, plane: str, contrast: str) -> None:
    del plane, contrast
    r = c.random
    tissue = c.grey(85, 25)
    deep = r.uniform(0.5, 1.0)
    if r.random() < 0.6:
        spread, top = r.uniform(0.6, 0.95) * deep, c.near(-0.8, 0.1)
        turns = [float(t) for t in np.linspace(-0.65, 0.65, 15)]
        far = [(np.sin(t) * 1.6 * spread, top - 0.2 + np.cos(t) * 1.6 * deep) for t in turns]
        near = [(np.sin(t) * 0.4 * spread, top - 0.2 + np.cos(t) * 0.4) for t in reversed(turns)]
        c.area(far + near, tissue)
    else:
        top = c.near(-0.55, 0.1)
        c.area([(-0.85, top), (0.85, top), (0.85, top + 1.1 * deep), (-0.85, top + 1.1 * deep)], tissue)
    for _ in range(9):
        y = c.near(0.1, 0.5) * deep
        level = tissue + r.randint(15, 90)
        c.bow((c.near(0, 0.2), y), (c.near(0.4, 0.15) * deep, 0.12), (200, 340), level, 3)
    for _ in range(4):
        place = (c.near(0, 0.4) * deep, c.near(0.05, 0.4) * deep)
        c.ellipse(place, (c.near(0.18, 0.08), 0.1), tissue + r.randint(-30, 25))
    if r.random() < 0.4:
        _doppler(c)
    _ultrasound_screen(c)


def _doppler(c: Canvas) -> None:
    """Flow in colour inside a box, as colour Doppler shows it."""
    r = c.random
    left, top, right, bottom = c.near(-0.6, 0.2), c.near(-0.35, 0.12), c.near(0.6, 0.2), c.near(0.35, 0.15)
    c.stroke([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], 230, 1)
    colours = [(255, 190, 30), (230, 90, 20), (255, 240, 120), (190, 40, 10)]
    if r.random() < 0.3:
        colours += [(30, 60, 210), (60, 160, 250)]
    for _ in range(r.randint(3, 9)):
        root = (r.uniform(left, right) * 0.8, (top + bottom) / 2 + c.near(0, 0.1))
        c.tree(root, r.uniform(0, 6.28), r.uniform(0.12, 0.25), r.choice(colours), 3)
    for step in range(8):
        y = -0.3 + step * 0.06
        c.area([(0.92, y), (0.97, y), (0.97, y + 0.06), (0.92, y + 0.06)], colours[step % len(colours)])


def _ultrasound_screen(c: Canvas) -> None:
    """Draw settings, scales and bars as a scanner does around its picture."""
    r = c.random
    words = (
        "MED CTR",
        "TIS0.4 MI 1.0",
        "12:03:44",
        "C5-2",
        "ABD",
        "Gn 52",
        "2D 71%",
        "3.5 MHz",
        "LYMPH NODE",
        "232dB/C3",
    )
    for row in range(r.randint(2, 6)):
        c.label((-0.97, -0.97 + row * 0.09), r.choice(words), 220)
    for _ in range(r.randint(0, 5)):
        c.label((r.uniform(-0.2, 0.6), r.choice((-0.96, -0.88, 0.8, 0.9))), r.choice(words), 220)
    for step in range(16):
        c.stroke([(0.96, -0.8 + step * 0.11), (0.99, -0.8 + step * 0.11)], 200, 1)
    if r.random() < 0.5:
        for step in range(20):
            c.stroke([(-0.96, -0.2 + step * 0.03), (-0.92, -0.2 + step * 0.03)], 250 - step * 12, 2)
    if r.random() < 0.25:
        c.area([(-1, -1), (1, -1), (1, -0.8), (-1, -0.8)], 250)


def _bone_scan(c: Canvas, plane: str, contrast: str) -> None:
    del plane, contrast
    faint, bone = c.grey(38, 14), c.grey(105, 25)
    c.ellipse((0, -0.84), (0.2, 0.1), bone)
    c.area([(-0.5, -0.62), (0.5, -0.62), (0.38, 0.1), (-0.38, 0.1)], faint)
    for side in (-1, 1):
        c.stroke([(side * 0.48, -0.6), (side * 0.7, -0.25), (side * 0.72, 0.1)], faint + 15, 8)
        c.stroke([(side * 0.22, 0.1), (side * 0.24, 0.5), (side * 0.2, 0.95)], faint + 22, 12)
        c.ellipse((side * 0.24, 0.52), (0.09, 0.03), bone)
        c.ellipse((side * 0.48, -0.6), (0.1, 0.04), bone)
        c.ellipse((side * 0.26, 0.08), (0.2, 0.07), bone - 15)
        for step in range(6):
            c.bow((side * 0.2, -0.45 + step * 0.08), (0.22, 0.04), (180, 360), bone - 30, 2)
    c.stroke([(0, -0.74), (0, 0.08)], bone + 20, 6)
    c.ellipse((0, 0.15), (0.1, 0.03), c.grey(235, 15))


KINDS: tuple[Kind, ...] = (
    Kind(
        "ct_head",
        "CT",
        "head",
        _ct_head,
        (0.2, 0.42, -0.45, 0.45),
        ("axial",),
        ("plain", "enhanced"),
        aspects=(0.8, 1.2),
    ),
    Kind(
        "ct_chest",
        "CT",
        "chest",
        _ct_chest,
        (0.36, 0.52, -0.28, 0.22),
        ("axial",),
        ("plain", "enhanced"),
        ("bright",),
        aspects=(1.0, 1.5),
    ),
    Kind(
        "ct_abdomen",
        "CT",
        "abdomen",
        _ct_abdomen,
        (0.3, 0.55, -0.3, 0.2),
        ("axial",),
        ("plain", "enhanced"),
        aspects=(1.0, 1.6),
    ),
    Kind("ct_spine", "CT", "spine", _ct_spine, (0.14, 0.5, 0.15, 0.6), ("axial",), aspects=(0.8, 1.25)),
    Kind(
        "mr_head",
        "MR",
        "head",
        _mr_head,
        (0.18, 0.42, -0.42, 0.3),
        ("axial", "sagittal"),
        ("T1", "T2"),
        aspects=(0.78, 1.2),
    ),
    Kind(
        "mr_abdomen",
        "MR",
        "abdomen",
        _mr_abdomen,
        (0.28, 0.52, -0.28, 0.2),
        ("axial",),
        ("T1", "T2"),
        aspects=(1.0, 1.7),
    ),
    Kind(
        "mr_spine",
        "MR",
        "spine",
        _mr_spine,
        (0.2, 0.6, -0.6, 0.6),
        ("sagittal",),
        ("T1", "T2"),
        ("bright",),
        aspects=(0.6, 1.0),
    ),
    Kind("mr_limb", "MR", "limb", _mr_limb, (0.15, 0.5, -0.4, 0.4), ("axial",), ("T1", "T2"), ()),
    Kind(
        "chest_film",
        "XR",
        "chest",
        _chest_film,
        (0.34, 0.55, -0.42, 0.3),
        ("frontal",),
        tones=("bright",),
        aspects=(0.75, 1.25),
    ),
    Kind(
        "histology",
        "histology",
        "tissue",
        _histology,
        (0.2, 0.75, -0.7, 0.7),
        tones=("dark",),
        colour=True,
        aspects=(0.7, 1.5),
    ),
    Kind("fundus", "fundus", "eye", _fundus, (0.2, 0.5, -0.5, 0.5), colour=True, aspects=(0.85, 1.5)),
    Kind(
        "ultrasound", "US", "tissue", _ultrasound, (0.15, 0.42, -0.15, 0.35), colour=True, aspects=(0.9, 2.3)
    ),
    Kind(
        "bone_scan",
        "NM",
        "skeleton",
        _bone_scan,
        (0.2, 0.5, -0.5, 0.7),
        ("frontal",),
        tones=("bright",),
        aspects=(0.3, 0.65),
    ),
)
KIND_BY_NAME = {kind.name: kind for kind in KINDS}
