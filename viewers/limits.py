"""How much an untrusted file may ask for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds checked before anything of that size is allocated."""

    file_bytes: int = 2**30
    """Bytes of the file, and of a deflated dataset once inflated: it is read into memory as a whole."""
    pixels_per_frame: int = 100_000_000
    """Rows x columns: the largest mammograms have 30 million; slides are opened otherwise."""
    decoded_bytes: int = 4 * 2**30
    """Bytes of all frames together, decoded: what storing the image would write."""
    frames: int = 20_000
    """Frames or pages: long cine loops have some hundreds, functional series some thousands."""
    elements: int = 500_000
    """Data elements, items and delimiters at all levels of a header: enhanced images have some sixty for
    each frame, and each costs the parser about half a kilobyte."""
    archive_entries: int = 50_000
    """Files of a folder or archive, with those of archives inside: large studies have some thousands."""
    archive_bytes: int = 8 * 2**30
    """Bytes really read out of an archive, in total."""
    archive_ratio: int = 300
    """Bytes read out of an archive for each byte of it, from the first 64 MiB on: empty scans reach about
    100, a bomb 1000 for each level."""
    archive_depth: int = 2
    """How deep archives may stand inside each other: 2 reads those in an archive."""
    slide_pixels: int = 2**38
    """Pixels of a slide at full detail: the largest scans, 2.5 x 7.5 cm at 0.1 microns, have 2 x 10^11."""
    slide_tiles: int = 16_000_000
    """Tiles of one level: a scan of that size in tiles of 128 pixels has about 11 million."""
    tile_pixels: int = 2**24
    """Pixels of one stored tile or strip: 4096 x 4096, sixteen times the largest in use."""
    graphics: bool = False
    """Whether drawings and text over pictures are taken in, of overlays and presentation states: both may
    name the patient."""
    mask_text: bool = False
    """Whether text that is found in pictures of suspicious kinds is blackened; needs the extra ``ocr``."""
    text_s: float = 60.0
    """Seconds for finding text in one image or series: half a second for each frame of 512 x 512."""
    slide_bytes: int = 64 * 2**30
    """Bytes of a slide's files together: they are read in place, never as a whole."""
