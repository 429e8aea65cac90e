"""What was noticed while opening an image that the reader should know, in no language.

A :class:`Finding` is a key and numbers or technical codes; the catalogue has the same keys and the texts.
Nothing in a finding is taken from free text of a header.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TEMPLATES", "Finding", "finding", "finding_from_json", "finding_to_json"]

TEMPLATES: Final[Mapping[str, str]] = {
    "finding.burned_in_stated": (
        "The file says that text is burned into the picture: it may name the patient."
    ),
    "finding.burned_in_possible": (
        "Images of this kind ({modality}) often have text burned in: check for names."
    ),
    "finding.text_covered": (
        "{count} places that look like text were blackened; text that was not recognised may remain."
    ),
    "finding.text_unchecked": (
        "There was no time to look for text in {count} frames; what other frames hold was blackened in them "
        "too."
    ),
    "finding.text_not_looked_for": "Text in the picture was not looked for: the extra ocr is not installed.",
    "finding.lossy": "The image was compressed with losses.",
    "finding.quantised": "Values were reduced to 65536 steps of {step} each.",
    "finding.values_clipped": "{count} values that are not numbers are drawn black.",
    "finding.header_warnings": "{count} entries of the header break the standard and were read leniently.",
    "finding.no_preamble": "The file lacks the DICOM preamble; it was read without.",
    "finding.transfer_syntax_repaired": "The transfer syntax was missing or wrong; {used} was used.",
    "finding.codestream_differs": "The pixels are compressed as {found}, not as the header says ({stated}).",
    "finding.color_not_halved": (
        "The header says that every second pixel shares its colour (YBR_FULL_422), but all pixels have their "
        "own: they were read so."
    ),
    "finding.window_unusable": "The file's window (centre {center}, width {width}) cannot be used.",
    "finding.rescale_unusable": (
        "The file's rescale slope or intercept cannot be used; stored values are shown."
    ),
    "finding.orientation_unusable": "The stated orientation is not possible; no side marks are shown.",
    "finding.spacing_unusable": "The stated pixel spacing is not possible; lengths are in pixels.",
    "finding.animation_left_out": (
        "{count} further pictures of the file (an animation, or a second view) were left out; "
        "the first is shown."
    ),
    "finding.pages_left_out": "{count} pages of another size or kind were left out.",
    "finding.transparency": "Transparent parts are shown over black.",
    "finding.color_profile_ignored": "A colour profile is present and was not applied.",
    "finding.color_profile_applied": "The colours were converted to sRGB by the file's colour profile.",
    "finding.color_profile_unusable": (
        "The file's colour profile cannot be used; colours are shown as stored."
    ),
    "finding.label_present": (
        "The file also holds a picture of the slide's label, which may name the patient: it is not shown."
    ),
    "finding.label_removed": "A picture of the slide's label was left out of the stored copy.",
    "finding.original_kept": (
        "This format is kept as it came: the file may hold names inside, which are never shown or sent."
    ),
    "finding.excerpt_large": (
        "The slide was larger than {limit} MiB: of it the regions of the conversation came along in detail, "
        "the rest in little."
    ),
    "finding.excerpt_original": (
        "The slide's own files may hold names and stayed behind: the regions of the conversation came along "
        "in detail, the rest in little."
    ),
    "finding.mpp_missing": "The file does not say how large a pixel is; lengths are in pixels.",
    "finding.depth_assumed": (
        "The file does not say how many bits a pixel uses; by the brightest one {bits} of 16 were assumed."
    ),
    "finding.channels_left_out": "{count} further channels or planes were left out; the first is shown.",
    "finding.levels_added": "{count} levels of less detail were added, so that the slide opens quickly.",
    "finding.file_unreadable": "File {index} was left out: {reason} ({kind}).",
    "finding.pixels_not_searched": (
        "Pixel data of this kind was not searched for what may stand beside the pixels, "
        "such as comments and EXIF."
    ),
    "finding.elements_left_out": "{count} entries of the header cannot be read and were removed.",
    "finding.more_findings": "{count} more findings are not listed.",
    "finding.files_not_images": "{count} files hold no image and were left out.",
    "finding.disc_incomplete": (
        "Of {total} images that the disc's table of contents (DICOMDIR) lists, {missing} are missing or "
        "cannot be read."
    ),
    "finding.duplicates": "{count} images are there more than once; one of each was kept.",
    "finding.patients_share_study": (
        "{count} patients stand under the same study identifier: their images were kept apart."
    ),
    "finding.series_split": "The series was split by geometry and time: this is part {part} of {parts}.",
    "finding.archive_too_deep": "{count} archives stand too deep inside each other and were not opened.",
    "finding.entry_unreadable": (
        "Entry {index} of an archive is damaged, cut off or protected by a password ({reason})."
    ),
    "finding.slices_left_out": "{count} slices cannot be decoded and were left out.",
    "finding.shutter_applied": "The file's display shutter hides part of the picture.",
    "finding.overlays_left_out": (
        "{count} overlays (drawings or text over the picture) are not shown and not kept: they may name the "
        "patient."
    ),
    "finding.overlays": "{count} overlays (drawings or text over the picture) can be shown: check for names.",
    "finding.presentations": "{count} presentation states of other programs can be shown.",
    "finding.presentation_graphics_left_out": (
        "Drawings and text of presentation states are not shown and not kept: they may name the patient."
    ),
    "finding.mosaic_split": (
        "The file holds {count} slices as one picture (mosaic); they are shown one by one."
    ),
    "finding.mosaic": (
        "The file holds several slices as one picture (mosaic); it is shown as it is, not as slices."
    ),
    "finding.presentation_states": (
        "{count} presentation states were not applied: they name no image here, or are of another kind."
    ),
    "finding.outside_masked": "What lies outside the stated ultrasound regions was blackened.",
    "finding.uneven_spacing": (
        "The slices are {smallest} to {largest} mm apart: at least one is missing or doubled."
    ),
    "finding.slices_shifted": (
        "Slices lie up to {distance} mm beside the straight line from the first to the last: they form no "
        "volume."
    ),
    "finding.gantry_tilt": "The slices are sheared by {degrees} degrees (tilted gantry).",
    "finding.position_missing": (
        "{count} images do not say where they lie; they are in the order of their numbers."
    ),
}
"""English text of each finding; the values it names are the finding's values."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation: a key of :data:`TEMPLATES` and its named values."""

    key: str
    values: Mapping[str, str | int | float] = field(default_factory=dict)

    def __str__(self) -> str:
        return TEMPLATES[self.key].format(**self.values)

    def __hash__(self) -> int:
        return hash((self.key, tuple(sorted(self.values.items()))))


def finding(name: str, **values: str | float) -> Finding:
    """Make the finding ``finding.<name>``.

    Raises
    ------
    KeyError
        If there is no such finding or a value its text names is missing.
    """
    made = Finding(f"finding.{name}", values)
    str(made)
    return made


def finding_to_json(found: Finding) -> dict[str, Any]:
    """Write a finding as JSON values."""
    return {"key": found.key, "values": dict(found.values)}


def finding_from_json(value: Any) -> Finding:
    """Read a finding from JSON values.

    Raises
    ------
    ValueError
        If there is no such finding, or its values are not those its text names.
    """
    if not isinstance(value, dict) or value.keys() != {"key", "values"}:
        raise ValueError("a finding has a key and values")
    key, values = value["key"], value["values"]
    if key not in TEMPLATES or not isinstance(values, dict):
        raise ValueError("a finding has a known key")
    if not all(isinstance(item, str | int | float) for item in values.values()):
        raise ValueError("a finding's values are texts and numbers")
    made = Finding(key, values)
    try:
        str(made)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError("a finding has the values its text names") from error
    return made
