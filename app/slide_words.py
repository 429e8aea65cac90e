"""What the model is told of a slide's pictures beside their pixels: magnification, microns, order, point.

Said to the model in the language it is to answer in; the page says the same in the texts of the catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["slide_words"]

_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "kind": "Microscopy slide.",
        "overview": "Picture 1: the whole slide.",
        "region": "Picture {number}: the region asked about, {power}{size}.",
        "power": "{power}×, ",
        "microns": "{width} µm × {height} µm",
        "pixels": "{width} × {height} pixels of full detail, magnification unknown",
        "parts": (
            "Pictures {first} to {last}: the parts of that region in detail{power}, row by row, {columns} in "
            "a row."
        ),
        "at": " at {power}×",
        "point": (
            "The point asked about lies in picture {number} at {x} % of the width from the left and {y} % of "
            "the height from the top."
        ),
    },
    "ar": {
        "kind": "شريحة مجهرية.",
        "overview": "الصورة 1: الشريحة كاملة.",
        "region": "الصورة {number}: المنطقة المسؤول عنها، {power}{size}.",
        "power": "تكبير {power}×، ",
        "microns": "{width} × {height} ميكرومتر",
        "pixels": "{width} × {height} بكسل بكامل الدقة، والتكبير غير معروف",
        "parts": (
            "الصور من {first} إلى {last}: أجزاء هذه المنطقة بالتفصيل{power}، صفًّا بعد صف، في كل صف {columns}."
        ),
        "at": " بتكبير {power}×",
        "point": (
            "تقع النقطة المسؤول عنها في الصورة {number} على بُعد {x} % من العرض من اليسار "
            "و{y} % من الارتفاع من الأعلى."
        ),
    },
}


def slide_words(facts: Mapping[str, Any], language: str) -> str:
    """Say what a slide's pictures are.

    Parameters
    ----------
    facts : mapping
        As ``describe_slide_view`` of :mod:`viewers.slide_view` returns them.
    language : str
        ``en`` or ``ar``.
    """
    words, overview = _WORDS[language], bool(facts["overview"])
    number = 2 if overview else 1
    said = [words["kind"], *([words["overview"]] if overview else [])]
    power = (
        "" if facts["magnification"] is None else words["power"].format(power=_short(facts["magnification"]))
    )
    said.append(words["region"].format(number=number, power=power, size=_size(facts, words)))
    columns, rows = facts["parts"]
    if columns * rows > 1:
        detail = facts["parts_magnification"]
        at = "" if detail is None else words["at"].format(power=_short(detail))
        said.append(
            words["parts"].format(first=number + 1, last=number + columns * rows, power=at, columns=columns)
        )
    if facts["point"] is not None:
        x, y = (round(100 * part) for part in facts["point"])
        said.append(words["point"].format(number=number, x=x, y=y))
    return f"[{' '.join(said)}]"


def _size(facts: Mapping[str, Any], words: Mapping[str, str]) -> str:
    turned = facts["rotation"] % 180 != 0
    microns = facts["size_um"]
    width, height = facts["region_px"][2:] if microns is None else microns
    width, height = (height, width) if turned else (width, height)
    return words["pixels" if microns is None else "microns"].format(
        width=_short(width), height=_short(height)
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
