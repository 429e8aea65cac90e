"""Errors of the viewers: what was found, what was expected, what to do next.

The tree::

    ViewerError                        everything below; carries a catalogue key and named values
    ├── OpenError                      a file that cannot be opened
    │   ├── NotAnImageError            neither DICOM nor a picture
    │   ├── NotASlideError             a DICOM object of another kind
    │   ├── TruncatedFileError         the file ends too early
    │   ├── NoPixelDataError           DICOM without pixels: a report, a plan, a waveform
    │   ├── MissingDecoderError        no decoder for the transfer syntax
    │   ├── UnsupportedImageError      a structure that is not displayed
    │   ├── CorruptHeaderError         attributes the pixels need are missing or impossible
    │   ├── CorruptPixelDataError      the pixels cannot be decoded
    │   ├── ArchiveError               a zip that cannot be read
    │   ├── CorruptTileError           a tile of a slide cannot be decoded
    │   ├── MissingCompanionError      files that belong to a slide are not there
    │   ├── OutsideReferenceError      a slide names a file outside its folder
    │   ├── IntakeError                opening the file took too long or too much memory
    │   ├── IntakeCancelledError       its owner asked to stop
    │   └── TooLargeError              more bytes, pixels or frames than the limits allow
    │       └── DecompressionBombError a small file that grows beyond the limits
    ├── ViewError                      a description of what is on screen that cannot be drawn
    │   ├── InvalidViewError           unknown or wrongly typed entries
    │   ├── FrameOutOfRangeError
    │   ├── MeasureError               a shape that cannot be measured
    │   ├── RegionOutOfBoundsError
    │   ├── LevelOutOfRangeError
    │   ├── TileOutOfRangeError
    │   └── ViewMismatchError          the view belongs to another image
    ├── VolumeError                    slices that form no volume
    │   ├── GantryTiltError            they are sheared
    │   ├── MixedOrientationError      they are not parallel
    │   ├── PlaneOutsideError          a plane that does not meet the volume
    │   ├── ShiftedSlicesError         some are moved in their plane
    │   ├── TooFewSlicesError
    │   └── UnevenSpacingError         one is missing, or they are not equally far apart
    ├── TextDetectorMissingError       text is to be covered, and nothing here finds it
    ├── SlideBusyError                 a tile that is no longer waited for, or too many at once
    ├── IdentityMapError               a map of pseudonyms that cannot be read
    └── StoredImageError               a stored image that is damaged or of another version

``str(error)`` is an English sentence. ``error.key`` and ``error.values`` let the application show the
same sentence from its catalogue in the user's language. No value is ever taken from the text of a
header: names, identifiers and descriptions do not reach an error.
Mistakes of the programmer (a window of negative width) are ``ValueError`` and ``TypeError``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ArchiveError",
    "CorruptHeaderError",
    "CorruptPixelDataError",
    "CorruptTileError",
    "DecompressionBombError",
    "FrameOutOfRangeError",
    "GantryTiltError",
    "IdentityMapError",
    "IntakeCancelledError",
    "IntakeError",
    "InvalidViewError",
    "LevelOutOfRangeError",
    "MeasureError",
    "MissingCompanionError",
    "MissingDecoderError",
    "MixedOrientationError",
    "NoPixelDataError",
    "NotASlideError",
    "NotAnImageError",
    "OpenError",
    "OutsideReferenceError",
    "PlaneOutsideError",
    "RegionOutOfBoundsError",
    "ShiftedSlicesError",
    "SlideBusyError",
    "StoredImageError",
    "TextDetectorMissingError",
    "TileOutOfRangeError",
    "TooFewSlicesError",
    "TooLargeError",
    "TruncatedFileError",
    "UnevenSpacingError",
    "UnsupportedImageError",
    "ViewError",
    "ViewMismatchError",
    "ViewerError",
    "VolumeError",
]


class ViewerError(Exception):
    """Base of everything the viewers report to a user.

    Parameters
    ----------
    **values : object
        Values named in ``template``.
    """

    key: ClassVar[str] = "viewers.error"
    template: ClassVar[str] = "The image could not be shown: {reason}."

    def __init__(self, **values: object) -> None:
        self.values = values
        super().__init__(self.template.format(**values))


class OpenError(ViewerError):
    """A file that cannot be opened."""

    key = "viewers.open"
    template = "The file cannot be opened: {reason}."


class NotAnImageError(OpenError):
    """Neither DICOM nor a picture of a known kind."""

    key = "viewers.not_an_image"
    template = (
        "This file is not an image that can be opened: found {found}, expected DICOM, PNG, JPEG, "
        "TIFF, BMP, WebP or GIF. "
        "Choose another file."
    )


class NotASlideError(OpenError):
    """A DICOM object that is opened as an image or study, and not as a slide."""

    key = "viewers.not_a_slide"
    template = (
        "This DICOM file is no slide: found {found}, expected {expected}. "
        "Open it as an image or a study instead."
    )


class TruncatedFileError(OpenError):
    """The file ends before its pixels do."""

    key = "viewers.truncated"
    template = (
        "The file is incomplete: found {found} bytes of {part}, expected {expected}. "
        "Copy or export it again from its source."
    )


class NoPixelDataError(OpenError):
    """A DICOM object that holds no image."""

    key = "viewers.no_pixels"
    template = "This DICOM file holds no image: it is of the kind {found}. Choose a file that holds an image."


class MissingDecoderError(OpenError):
    """No decoder for the transfer syntax."""

    key = "viewers.missing_decoder"
    template = (
        "The pixels are compressed as {syntax} ({uid}), which {plugin} cannot decode here; needed: "
        "{package}. "
        "Export the image uncompressed, or install what is missing."
    )


class TextDetectorMissingError(ViewerError):
    """Text in pictures was to be covered, and nothing here can find it."""

    key = "viewers.text_detector_missing"
    template = (
        "Text in pictures cannot be looked for here. Install {package}, or go on without and check the "
        "pictures yourself."
    )


class UnsupportedImageError(OpenError):
    """A structure of pixels that is not displayed."""

    key = "viewers.unsupported"
    template = (
        "This kind of image is not supported: found {found}, expected {expected}. "
        "Export the image in another form."
    )


class CorruptHeaderError(OpenError):
    """Attributes the pixels need are missing or impossible."""

    key = "viewers.corrupt_header"
    template = (
        "The description of the pixels is damaged: {attribute} is {found}, expected {expected}. "
        "Copy or export the file again from its source."
    )


class CorruptPixelDataError(OpenError):
    """The pixels cannot be decoded."""

    key = "viewers.corrupt_pixels"
    template = (
        "The pixels of frame {frame} cannot be decoded: {reason}. "
        "Copy or export the file again from its source."
    )


class CorruptTileError(OpenError):
    """A tile of a slide cannot be decoded."""

    key = "viewers.corrupt_tile"
    template = (
        "A part of the slide cannot be decoded: level {level}, column {column}, row {row} ({reason}). "
        "The rest can be viewed; copy or export the file again from its source."
    )


class MissingCompanionError(OpenError):
    """Files that belong to a slide are not there."""

    key = "viewers.missing_companion"
    template = (
        "The slide is incomplete: found {found} of the {expected} files that belong to it. "
        "Choose the slide together with its folder, or a zip of both."
    )


class OutsideReferenceError(OpenError):
    """A slide names a file outside its own folder."""

    key = "viewers.outside_reference"
    template = (
        "The slide was refused because one of the {count} files it names is outside its own folder. "
        "Do not open it unless you know where it comes from."
    )


class TooLargeError(OpenError):
    """More bytes, pixels or frames than the limits allow; found from headers, before decoding."""

    key = "viewers.too_large"
    template = (
        "The file is too large to be opened safely: {quantity} is {found}, and at most {limit} is allowed. "
        "Open a smaller part of it, or raise the limit in the settings."
    )


class DecompressionBombError(TooLargeError):
    """A small file that grows beyond the limits when decompressed."""

    key = "viewers.bomb"
    template = (
        "The file was refused because it grows beyond what is safe when decompressed: {quantity} is {found}, "
        "and at most {limit} is allowed. Do not open it unless you know where it comes from."
    )


class ViewError(ViewerError):
    """A description of what is on screen that cannot be drawn."""

    key = "viewers.view"
    template = "This view cannot be drawn: {reason}."


class InvalidViewError(ViewError):
    """Unknown, missing or wrongly typed entries, or values that fit no image of this kind."""

    key = "viewers.view_invalid"
    template = (
        "This view cannot be drawn: {entry} is {found}, expected {expected}. Open the image again "
        "and choose a new view."
    )


class FrameOutOfRangeError(ViewError):
    """A frame the image does not have."""

    key = "viewers.frame_out_of_range"
    template = (
        "Frame {found} does not exist: the image has {count} frames, counted from 1. Choose another frame."
    )


class RegionOutOfBoundsError(ViewError):
    """A region that leaves the image or is empty."""

    key = "viewers.region_out_of_bounds"
    template = (
        "The region {found} is not inside the image, which is {expected} pixels large. Draw the region again."
    )


class LevelOutOfRangeError(ViewError):
    """A level of detail the slide does not have."""

    key = "viewers.level_out_of_range"
    template = (
        "Level {found} does not exist: the slide has {count} levels, counted from 0. Choose another level."
    )


class TileOutOfRangeError(ViewError):
    """A tile address that the slide does not have."""

    key = "viewers.tile_out_of_range"
    template = "Tile {found} does not exist: {expected} was expected. Open the slide again."


class MeasureError(ViewError):
    """A shape that cannot be measured."""

    key = "viewers.measure"
    template = (
        "This cannot be measured: {entry} is {found}, expected {expected}. "
        "Draw it again, wholly inside the picture."
    )


class ViewMismatchError(ViewError):
    """The view was made for another image."""

    key = "viewers.view_mismatch"
    template = (
        "This view belongs to another image: found {found}, expected {expected}. Open the image it "
        "was made for."
    )


class SlideBusyError(ViewerError):
    """More tiles are asked for than can be drawn; those asked for last are drawn first."""

    key = "viewers.slide_busy"
    template = (
        "Too many parts of slides are asked for at once: {waiting} are waiting. Wait a moment, then move on."
    )


class StoredImageError(ViewerError):
    """A stored image that is missing, damaged or of another version."""

    key = "viewers.stored_image"
    template = "The stored image cannot be read: {reason}. Open the original file again."


class IdentityMapError(ViewerError):
    """A map of pseudonyms that is damaged, or its key is another."""

    key = "viewers.identity_map"
    template = (
        "The map of pseudonyms cannot be read ({reason}): it is damaged, or this is not its key. "
        "Give the key file it was written with."
    )


class ArchiveError(OpenError):
    """A zip archive that cannot be read."""

    key = "viewers.archive"
    template = (
        "The archive is damaged, cut off or protected by a password ({reason}). Make it again, or choose the "
        "files themselves."
    )


class IntakeError(OpenError):
    """Opening a file took too long or too much memory, or ended the process that tried."""

    key = "viewers.intake"
    template = (
        "The file could not be opened safely: {reason}, and at most {limit} is allowed. "
        "Do not open it unless you know where it comes from."
    )


class IntakeCancelledError(OpenError):
    """Reading was stopped because its owner asked for it."""

    key = "viewers.intake_cancelled"
    template = "Reading was stopped. Open the files again to read them."


class VolumeError(ViewerError):
    """Slices that form no volume."""

    key = "viewers.volume"
    template = "These images form no volume: {reason}. Look at them one by one."


class GantryTiltError(VolumeError):
    """Slices sheared against each other, as a tilted gantry makes them."""

    key = "viewers.gantry_tilt"
    template = (
        "Other planes cannot be shown: the slices are sheared by {found} degrees (tilted gantry), "
        "expected less than {limit}. Look at the slices one by one."
    )


class MixedOrientationError(VolumeError):
    """Slices that are not parallel, or do not say how they lie."""

    key = "viewers.mixed_orientation"
    template = (
        "Other planes cannot be shown: {found} of {count} slices do not say how they lie or are not "
        "parallel to the first. Look at the slices one by one."
    )


class PlaneOutsideError(VolumeError):
    """A plane that does not meet the volume."""

    key = "viewers.plane_outside"
    template = (
        "The {plane} plane at {found} mm does not meet the images, which reach from {low} to {high} mm. "
        "Choose a position between."
    )


class ShiftedSlicesError(VolumeError):
    """Slices that do not lie on one straight line: some are moved in their plane, or the steps drift."""

    key = "viewers.shifted_slices"
    template = (
        "Other planes cannot be shown: slices lie up to {found} mm beside the straight line from the first "
        "to the last, as when the patient or the field of view was moved. Look at the slices one by one."
    )


class TooFewSlicesError(VolumeError):
    """Too few slices for another plane."""

    key = "viewers.too_few_slices"
    template = (
        "Other planes cannot be shown: found {found} slices, expected at least {expected}. "
        "Look at the slices one by one."
    )


class UnevenSpacingError(VolumeError):
    """A slice is missing or doubled, or the distances differ."""

    key = "viewers.uneven_spacing"
    template = (
        "Other planes cannot be shown: neighbouring slices are {smallest} to {largest} mm apart, expected "
        "{expected} mm everywhere. Look at the slices one by one, or export the series again."
    )
