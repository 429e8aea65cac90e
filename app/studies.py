"""Commands for whole studies: list what is in a folder or archive, write a volume.

The same code as the page uses. Only what a command needs is imported when it runs.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.help_texts import wrong_value

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from app.settings import Settings
    from viewers.findings import Finding
    from viewers.series import Series
    from viewers.stack import SlicePlane
    from viewers.study import Study, StudyReader
    from viewers.volume import Volume

__all__ = ["add_commands", "chosen", "read"]


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``studies`` and ``volume`` to the parser of all commands."""
    studies = commands.add_parser(
        "studies", parents=[common], help="list the studies and series of a folder or zip"
    )
    studies.add_argument("source", type=Path, metavar="FOLDER|ZIP|FILE")
    studies.add_argument("--json", action="store_true", help="as JSON, for programs")
    studies.set_defaults(command=_studies)
    volume = commands.add_parser("volume", parents=[common], help="write a series as a NIfTI volume")
    volume.add_argument("source", type=Path, metavar="FOLDER|ZIP")
    volume.add_argument("output", type=_nifti_name, metavar="OUT.nii.gz")
    volume.add_argument("--series", metavar="ID", help="as listed by studies; the largest by default")
    volume.set_defaults(command=_volume)


def _nifti_name(text: str) -> Path:
    if not text.endswith((".nii", ".nii.gz")):
        raise wrong_value("expected a name that ends in .nii or .nii.gz, found {found}", found=repr(text))
    return Path(text)


@contextmanager
def read(
    settings: Settings, source: Path, *, graphics: bool = False
) -> Iterator[tuple[tuple[Study, ...], StudyReader]]:
    """Read the studies of a folder, zip or file, which can be opened until the context ends.

    Parameters
    ----------
    graphics : bool
        Whether to take in drawings and text over pictures.

    Raises
    ------
    ViewerError, OSError
    """
    from app.pseudonym_key import pseudonym_key
    from i18n.text import visual_order
    from viewers.directory import names_directory
    from viewers.limits import Limits
    from viewers.study import read_studies

    source.stat()  # a missing source is an error of the operating system that names it
    if names_directory(source):
        source = source.resolve().parent  # a DICOMDIR only lists what lies beside and below it
    limits = Limits(graphics=graphics)
    reader, studies = read_studies(
        source, key=pseudonym_key(settings), limits=limits, visual_order=visual_order
    )
    with reader:
        yield studies, reader


def _studies(settings: Settings, options: argparse.Namespace, language: str) -> int:
    with read(settings, options.source) as (studies, reader):
        if options.json:
            print(json.dumps(_as_json(studies, reader.findings), indent=1))
        else:
            print("\n".join(_lines(studies, reader, language)))
    return 0 if studies else 1


def _as_json(studies: tuple[Study, ...], findings: tuple[Finding, ...]) -> dict[str, Any]:
    return {
        "studies": [
            {"id": study.id, "series": [_series_json(series) for series in study.series]} for study in studies
        ],
        "findings": [_finding_json(found) for found in findings],
    }


def _series_json(series: Series) -> dict[str, Any]:
    from viewers.errors import VolumeError

    stack = series.stack
    affine, problem = None, None
    try:
        affine = stack.affine().tolist()
    except VolumeError as error:
        problem = {"key": error.key, "values": error.values}
    steps = sorted(stack.steps_mm())
    return {
        "id": series.id,
        "space": series.origin.space,
        "modality": series.modality,
        "facts": dict(series.facts),
        "files": len(series.instances),
        "frames": series.frame_count,
        "size_px": [series.size.width, series.size.height],
        "spacing_mm": stack.spacing_mm,
        "slice_spacing_mm": [steps[0], steps[len(steps) // 2], steps[-1]] if steps else None,
        "tilt_degrees": round(stack.tilt_degrees(), 3),
        "planes": [_plane_json(plane) for plane in (*stack.planes[:1], *stack.planes[1:][-1:])],
        "affine_lps_mm": affine,
        "no_volume_because": problem,
        "findings": [_finding_json(found) for found in series.findings],
    }


def _plane_json(plane: SlicePlane | None) -> dict[str, Any] | None:
    """Where the first or the last slice lies."""
    if plane is None:
        return None
    return {"position_mm": list(plane.position_mm), "cosines": list(plane.cosines)}


def _finding_json(found: Finding) -> dict[str, Any]:
    return {"key": found.key, "values": dict(found.values)}


def _lines(studies: tuple[Study, ...], reader: StudyReader, language: str) -> Iterator[str]:
    from app.finding_text import finding_text

    for study in studies:
        yield study.id
        for series in study.series:
            yield f"  {series.id}  {_summary(series)}"
            for found in series.findings:
                yield f"    {finding_text(found, language)}"
    for found, name in zip(reader.findings, reader.names, strict=True):
        # Names of files name patients: they are for this terminal, where they were typed, and not in --json.
        yield " ".join(filter(None, (name and f"{name}:", finding_text(found, language))))


def _summary(series: Series) -> str:
    """Describe a series in codes and numbers, which read the same in every language."""
    steps = sorted(series.stack.steps_mm())
    pieces = (
        series.modality,
        series.facts.get("BodyPartExamined", ""),
        f"{series.frame_count} x {series.size.width}x{series.size.height}",
        f"{steps[len(steps) // 2]:g} mm" if steps and not series.stack.is_one_place() else "",
    )
    return "  ".join(piece for piece in pieces if piece)


def chosen(studies: tuple[Study, ...], wanted: str | None, *, volume: bool = False) -> Series:
    """Find the series of an id, or the largest; with ``volume``, the largest that forms one, if any does.

    Raises
    ------
    VolumeError
        If there is none.
    """
    from viewers.errors import VolumeError

    found = [series for study in studies for series in study.series if wanted in (None, series.id)]
    if not found:
        raise VolumeError(reason=f"0 series {(wanted or '')[:16]}".strip())
    return max(found, key=lambda series: (volume and _is_volume(series), series.frame_count))


def _is_volume(series: Series) -> bool:
    from viewers.errors import VolumeError

    try:
        series.stack.check()
    except VolumeError:
        return False
    return not series.is_color


@contextmanager
def _opened_volume(settings: Settings, source: Path, wanted: str | None, language: str) -> Iterator[Volume]:
    from i18n.catalogue import Catalogue
    from viewers.assembly import volume_of
    from viewers.nifti import read_nifti

    if source.name.endswith((".nii", ".nii.gz")):
        source.stat()
        yield read_nifti(source)
        return
    with read(settings, source) as (studies, _):
        series = chosen(studies, wanted, volume=True)
        count = sum(len(study.series) for study in studies)
        print(Catalogue().text("cli.volume_series", language, found=series.id, count=count))
        yield volume_of(series)


def _volume(settings: Settings, options: argparse.Namespace, language: str) -> int:
    from viewers.nifti import write_nifti

    with _opened_volume(settings, options.source, options.series, language) as volume:
        write_nifti(volume, options.output)
    return 0
