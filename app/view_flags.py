"""What is looked at from the command line: the flags that make a view, and the picture they are for.

A file, a folder, a zip and a NIfTI volume all become an image as the page has it, and the flags the view
that would be on screen, so that ``render``, ``ask`` and ``measure`` go through the page's own code.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.help_texts import wrong_value

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from app.settings import Settings
    from viewers.image import Image
    from viewers.planes import PlaneView
    from viewers.view import View
    from viewers.window import VoiFunction

__all__ = ["add_measure_command", "add_view_flags", "opened_view"]

_LARGEST = 1e30
"""Numbers beyond stand for nothing."""


def add_view_flags(view: argparse.ArgumentParser) -> None:
    """Add the flags that say what of an image is looked at, and how."""
    view.add_argument("--frame", type=int, default=1, metavar="N", help="frame number, from 1")
    view.add_argument("--series", metavar="ID", help="of a folder or zip, as listed by studies; the largest")
    view.add_argument(
        "--window",
        type=_window,
        metavar="CENTRE,WIDTH",
        help="e.g. --window=-600,1500; the file's own by default",
    )
    view.add_argument("--region", type=_whole_numbers(4), metavar="X,Y,WIDTH,HEIGHT", help="part, in pixels")
    view.add_argument("--invert", action="store_true", help="swap black and white")
    view.add_argument("--rotate", type=int, choices=(0, 90, 180, 270), default=0, help="degrees clockwise")
    view.add_argument("--flip", action="store_true", help="exchange left and right, before rotating")
    view.add_argument(
        "--plane",
        choices=("axial", "coronal", "sagittal"),
        help="a plane of the volume that a folder, zip or NIfTI file holds",
    )
    view.add_argument(
        "--position",
        type=float,
        metavar="MM",
        help="of the plane in the patient: towards head, back, left; the middle by default",
    )
    view.add_argument(
        "--projection", choices=("mip", "minip", "mean"), help="of the slab around the plane's position"
    )
    view.add_argument(
        "--thickness", type=float, default=20.0, metavar="MM", help="of the slab; 20 by default"
    )
    view.add_argument(
        "--rule",
        type=_channels,
        metavar="RED,GREEN,BLUE",
        help="three windows as colours, for CT, e.g. --rule=lung,soft_tissue,bone",
    )
    view.add_argument(
        "--graphics", action="store_true", help="show drawings and text over the picture: they may hold names"
    )
    view.add_argument(
        "--presentation",
        type=int,
        metavar="N",
        help="show it as the Nth presentation state of the folder or zip says; other flags change that view",
    )


def _numbers(count: int) -> Any:
    def read(text: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(piece) for piece in text.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != count:
            raise wrong_value(
                "expected numbers with commas between, {count} in all, found {found}",
                count=count,
                found=repr(text),
            )
        return numbers

    return read


def _window(text: str) -> tuple[float, ...]:
    center, width = _numbers(2)(text)
    if not (abs(center) < _LARGEST and 0 < width < _LARGEST):
        raise wrong_value("expected a centre, and a width above 0, found {found}", found=repr(text))
    return center, width


def _whole_numbers(count: int) -> Any:
    def read(text: str) -> tuple[int, ...]:
        numbers = _numbers(count)(text)
        if not all(number.is_integer() for number in numbers):
            raise wrong_value(
                "expected whole numbers, {count} in all, found {found}", count=count, found=repr(text)
            )
        return tuple(int(number) for number in numbers)

    return read


def _channels(text: str) -> tuple[str, ...]:
    from viewers.presets import CT_PRESETS

    channels = tuple(text.split(","))
    if len(channels) != 3 or not set(channels) <= CT_PRESETS.keys():
        raise wrong_value(
            "expected three of {names}; found {found}", names=", ".join(CT_PRESETS), found=repr(text)
        )
    return channels


@contextmanager
def opened_view(settings: Settings, options: argparse.Namespace) -> Iterator[tuple[Image, View]]:
    """Open what ``options.image`` names, and make the view the flags describe.

    Raises
    ------
    ViewerError
        If it cannot be opened, or the view does not fit it.
    OSError
    """
    from viewers.errors import FrameOutOfRangeError
    from viewers.view import default_view, presented_view

    with _opened(settings, options) as image:
        if not 1 <= options.frame <= image.frame_count:
            raise FrameOutOfRangeError(found=options.frame, count=image.frame_count)
        if options.presentation is not None:
            yield image, _changed(presented_view(image, options.frame - 1, options.presentation), options)
            return
        plane = _plane(image, options) if options.plane else None
        yield image, _changed(default_view(image, options.frame - 1, plane), options)


@contextmanager
def _opened(settings: Settings, options: argparse.Namespace) -> Iterator[Image]:
    from app.studies import chosen, read
    from viewers.directory import names_directory

    source: Path = options.image
    if source.is_dir() or source.suffix.lower() == ".zip" or (source.exists() and names_directory(source)):
        with read(settings, source, graphics=options.graphics) as (studies, _):
            yield chosen(studies, options.series, volume=bool(options.plane)).open()
    else:
        from viewers.intake import open_image
        from viewers.limits import Limits

        yield open_image(source, Limits(graphics=options.graphics))


def _plane(image: Image, options: argparse.Namespace) -> PlaneView:
    from viewers.assembly import image_volume
    from viewers.planes import PlaneView

    position = options.position
    if position is None:
        positions = image_volume(image, options.frame - 1).positions_mm(options.plane)
        position = float(positions[len(positions) // 2])
    if options.projection is None:
        return PlaneView(options.plane, position)
    return PlaneView(options.plane, position, options.projection, options.thickness)


def _changed(view: View, options: argparse.Namespace) -> View:
    """Apply the flags to a view."""
    from dataclasses import replace

    from viewers.geometry import Region
    from viewers.rules import Rule
    from viewers.window import Window

    if options.window:
        center, width = options.window
        # PS3.3 C.11.2.1.2.1: the common function begins at a width of 1
        function: VoiFunction = "LINEAR" if width >= 1 else "LINEAR_EXACT"
        view = replace(view, window=Window(center, width, function), voi_lut=None)
    if options.region:
        view = replace(view, region=Region(*options.region))
    if options.rule:
        view = replace(view, rule=Rule(options.rule))
    view = replace(view, inverted=view.inverted != options.invert, graphics=options.graphics)
    if options.presentation is not None and not (options.rotate or options.flip):
        return view
    return replace(view, rotation=options.rotate, flipped=options.flip)


def add_measure_command(
    commands: Any, common: argparse.ArgumentParser, view: argparse.ArgumentParser
) -> None:
    """Add ``measure`` to the parser of all commands."""
    measure = commands.add_parser(
        "measure", parents=[common, view], help="measure on a frame or plane; prints JSON"
    )
    measure.add_argument("image", type=_path, metavar="FILE|FOLDER|ZIP")
    measure.add_argument("kind", choices=("length", "angle", "rectangle", "ellipse", "probe"))
    measure.add_argument(
        "points",
        type=_numbers(2),
        nargs="+",
        metavar="X,Y",
        help="in pixels from the upper left corner; the first pixel's centre is 0.5,0.5",
    )
    measure.set_defaults(command=_measure)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _measure(settings: Settings, options: argparse.Namespace, _language: str) -> int:
    from viewers.measure import Shape, measure

    with opened_view(settings, options) as (image, view):
        shape = Shape(options.kind, tuple((x, y) for x, y in options.points))
        made = measure(image, shape, view.frame, view.plane)
        print(json.dumps(made.to_json(), indent=1))
    return 0
