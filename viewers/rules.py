"""How what is on screen is laid out for the model, as a declared rule that is stored with the view.

The rule of every modality is to give the model what is displayed. For CT a second one may be chosen: one
picture whose red, green and blue are three windows. A rule changes the picture itself, on screen and
everywhere else, so that the model never sees anything but what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from viewers.errors import InvalidViewError
from viewers.presets import CT_PRESETS
from viewers.record import Types, strict
from viewers.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viewers.image import Image

__all__ = ["AS_DISPLAYED", "Rule", "rule_keys"]

AS_DISPLAYED: Final = "rule.as_displayed"
"""Key of the rule of a view that has none of its own."""
_RECORD: Final[Mapping[str, Types]] = {"name": str, "channels": list}
_NAME: Final = "three_windows"


def _invalid(entry: str, found: str, expected: str) -> Exception:
    return InvalidViewError(entry=f"rule.{entry}", found=found, expected=expected)


@dataclass(frozen=True, slots=True)
class Rule:
    """Three CT windows as red, green and blue.

    Parameters
    ----------
    channels : tuple of 3 str
        Keys of :data:`viewers.presets.CT_PRESETS`, for red, green and blue.
    """

    channels: tuple[str, str, str] = ("lung", "soft_tissue", "bone")

    key: ClassVar[str] = "rule.three_windows"
    """Of its text in the catalogue, which names ``red``, ``green`` and ``blue``."""

    def __post_init__(self) -> None:
        if len(self.channels) != 3 or not set(self.channels) <= CT_PRESETS.keys():
            raise ValueError(f"three keys of CT presets are expected, found {len(self.channels)}")

    @property
    def windows(self) -> tuple[Window, ...]:
        """Windows of red, green and blue."""
        return tuple(Window(*CT_PRESETS[key]) for key in self.channels)

    def check(self, image: Image) -> None:
        """Refuse an image whose values are no Hounsfield units.

        Raises
        ------
        InvalidViewError
        """
        if _NAME not in rule_keys(image):
            raise InvalidViewError(entry="rule", found=image.modality or "?", expected="CT, HU")

    def to_json(self) -> dict[str, Any]:
        """JSON values, with every entry present."""
        return {"name": _NAME, "channels": list(self.channels)}

    @classmethod
    def from_json(cls, value: Any) -> Rule:
        """Read JSON values from anywhere.

        Raises
        ------
        InvalidViewError
            If an entry is missing, unknown or wrongly typed, or a channel is no preset.
        """
        record = strict(value, _RECORD, _invalid)
        channels = record["channels"]
        known = all(isinstance(key, str) and key in CT_PRESETS for key in channels)
        if record["name"] != _NAME or len(channels) != 3 or not known:
            raise _invalid("channels", "?", f"{_NAME}, 3 x {', '.join(CT_PRESETS)}")
        return cls((channels[0], channels[1], channels[2]))


def rule_keys(image: Image) -> tuple[str, ...]:
    """Names of the rules that may be chosen for an image, its default first."""
    hounsfield = not image.is_color and image.facts.get("RescaleType") == "HU"
    return ("as_displayed", _NAME) if hounsfield else ("as_displayed",)
