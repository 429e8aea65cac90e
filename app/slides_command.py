"""Commands for slides: what a slide holds, and any part of it as a picture.

The same code as the page uses. Only what a command needs is imported when it runs.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from app.settings import Settings
    from viewers.slide import Slide

__all__ = ["add_slide_command", "slide_pixels", "words_of_slide"]


def add_slide_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``slide`` to the parser of all commands."""
    slide = commands.add_parser(
        "slide", parents=[common], help="list a slide's levels, microns per pixel and findings"
    )
    slide.add_argument("source", type=Path, metavar="SLIDE|FOLDER|ZIP")
    slide.add_argument("--json", action="store_true", help="as JSON, for programs")
    slide.set_defaults(command=_slide)


def _slide(_settings: Settings, options: argparse.Namespace, language: str) -> int:
    with _opened(options.source) as slide:
        if options.json:
            print(json.dumps(_as_json(slide), indent=1))
        else:
            print("\n".join(_lines(slide, language)))
    return 0


@contextmanager
def _opened(source: Path) -> Iterator[Slide]:
    """Open a file, a folder, or what a zip holds."""
    from viewers.limits import Limits
    from viewers.openers import open_slide
    from viewers.slide_files import gather

    source.stat()  # a missing source is an error of the operating system that names it
    with tempfile.TemporaryDirectory() as scratch:
        is_zip = source.suffix.lower() == ".zip"
        given = gather(source, Path(scratch), Limits()) if is_zip else source
        with open_slide(given) as slide:
            yield slide


def _as_json(slide: Slide) -> dict[str, Any]:
    mpp = slide.mpp
    return {
        "vendor": slide.vendor,
        "size_px": [slide.size.width, slide.size.height],
        "mpp": None if mpp is None else {"x": mpp.x, "y": mpp.y, "source": mpp.source},
        "magnification": None if mpp is None else round(mpp.magnification, 2),
        "levels": [
            {
                "level": number,
                "size_px": [level.size.width, level.size.height],
                "downsample": level.downsample,
                "tile_px": [level.tile.width, level.tile.height],
            }
            for number, level in enumerate(slide.levels)
        ],
        "findings": [{"key": found.key, "values": dict(found.values)} for found in slide.findings],
    }


def _lines(slide: Slide, language: str) -> Iterator[str]:
    """Codes and numbers, which read the same in every language; then the findings in the reader's."""
    from i18n.catalogue import Catalogue

    mpp = slide.mpp
    scale = "? µm/px" if mpp is None else f"{mpp.x:g} x {mpp.y:g} µm/px  ({mpp.source})"
    yield f"{slide.vendor or '?'}  {slide.size.width}x{slide.size.height}  {scale}"
    for number, level in enumerate(slide.levels):
        power = "" if mpp is None else f"  {mpp.magnification / level.downsample:.3g}x"
        size, tile = level.size, level.tile
        yield (
            f"  {number}  {size.width}x{size.height}  1/{level.downsample:g}{power}"
            f"  {tile.width}x{tile.height}"
        )
    texts = Catalogue()
    for found in slide.findings:
        yield texts.text(found.key, language, **found.values)


def slide_pixels(options: argparse.Namespace) -> NDArray[np.uint8] | None:
    """Draw what the flags ``--region`` and ``--level`` name of a slide; ``None`` when the file is none.

    Without ``--level`` these are the pixels the model is shown of the region; with it, the region's pixels
    of that level. ``--region`` is in pixels of full detail; without it the whole slide is drawn.

    Raises
    ------
    ViewerError
        If it is a slide that cannot be opened, or the region or level is not on it.
    """
    from viewers.geometry import Region
    from viewers.openers import is_slide, open_slide
    from viewers.slide_files import may_be_slide

    level = getattr(options, "level", None)
    path = options.image
    candidate = path.is_dir() or may_be_slide(path)
    if level is None and not (candidate and is_slide(path)):
        return None
    with open_slide(path) as slide:
        whole = Region(0, 0, slide.size.width, slide.size.height)
        region = Region(*options.region) if options.region else whole
        return _drawn(slide, region, level)


def _drawn(slide: Slide, region: Any, level: int | None) -> NDArray[np.uint8]:
    from viewers.errors import LevelOutOfRangeError
    from viewers.geometry import SizePx
    from viewers.scaled import check_region
    from viewers.slide_view import draw_region

    check_region(slide, region)
    if level is None:
        return draw_region(slide, region)
    if not 0 <= level < len(slide.levels):
        raise LevelOutOfRangeError(found=level, count=len(slide.levels))
    chosen = slide.levels[level]
    sides = [max(1, int(side // chosen.downsample)) for side in (region.width, region.height)]
    return slide.read_region((region.x, region.y), level, SizePx(*sides))


def words_of_slide(options: argparse.Namespace, question: str) -> str:
    """Say what the model is told with a picture of :func:`slide_pixels`; empty when the file is no slide.

    Nothing is said of the pixels of a level that was named: they are not what the page would show the model.
    """
    from app.slide_words import slide_words
    from i18n.text import language_of
    from viewers.geometry import Region
    from viewers.openers import is_slide, open_slide
    from viewers.slide_files import may_be_slide
    from viewers.slide_view import SlideView, describe_on

    path = options.image
    if getattr(options, "level", None) is not None or not (path.is_dir() or may_be_slide(path)):
        return ""
    if not is_slide(path):
        return ""
    with open_slide(path) as slide:
        whole = Region(0, 0, slide.size.width, slide.size.height)
        view = SlideView("", Region(*options.region) if options.region else whole)
        return slide_words(describe_on(slide, view), language_of(question)) + "\n"
