"""Conversations about slides leave as one file and come back: whole, or as an excerpt that says why."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from app import slides_service
from app.errors import ArchiveError
from tests.viewers.openers import made, vendors
from viewers.geometry import Region
from viewers.shown import shown_from_json
from viewers.slide_view import SlideView, draw_region, whole_slide

SVS = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"
ME, OTHER = "me", "other"


def asked(workspace, *views):
    """Ask about views of a slide; returns the conversation."""
    thread = None
    for view in views:
        thread = list(workspace.ask(ME, thread, "What is here?", [view], "run"))[-1].thread_id
    return thread


def back_and_forth(workspace, thread, tmp_path):
    """Export, delete, import for somebody else; returns the file and the new conversation."""
    file = workspace.curation.export(ME, thread)
    kept = tmp_path / "out.zip"
    shutil.move(file, kept)
    workspace.delete(ME, thread)
    return kept, workspace.thread(OTHER, workspace.curation.bring_in(OTHER, kept))


def pictures(workspace, owner, view):
    """Draw what the model is given of a view."""
    return [part.pixels for part in workspace.pictures(owner, view)]


@pytest.fixture
def small(monkeypatch):
    """Let no slide leave whole."""
    monkeypatch.setattr(slides_service, "LEAVES_WHOLE", 1)


def views_of(digest):
    """Return views of a slide: a region with the whole before it, a point, a turned grid."""
    return (
        SlideView(digest, Region(300, 400, 700, 500), overview=True),
        SlideView(digest, Region(1000, 1000, 336, 336), point=(1100, 1200)),
        SlideView(digest, Region(100, 100, 2000, 2500), 90, grid=9),
    )


@pytest.mark.parametrize("is_large", [False, True])
def test_a_conversation_about_a_slide_comes_back_with_the_same_pictures(
    is_large, workspace, tmp_path, request
):
    """Every picture the model was given is the same to the pixel; a large slide leaves as an excerpt."""
    if is_large:
        request.getfixturevalue("small")
    digest = workspace.take_upload(ME, SVS)
    views = views_of(digest)
    before = [pictures(workspace, ME, view) for view in views]
    file, thread = back_and_forth(workspace, asked(workspace, *views), tmp_path)
    after = [shown_from_json(stored.view) for turn in thread.turns for stored in turn.views]
    assert [(one.region, one.rotation, one.point, one.grid) for one in after] == [
        (one.region, one.rotation, one.point, one.grid) for one in views
    ]
    for view, expected in zip(after, before, strict=True):
        drawn = pictures(workspace, OTHER, view)
        assert all(np.array_equal(a, b) for a, b in zip(drawn, expected, strict=True))
    with workspace.slides.borrow(after[0].slide) as slide:
        assert ("finding.excerpt_large" in {found.key for found in slide.findings}) is is_large
        assert slide.mpp is not None
        assert not any(path.name == "original" for path in workspace.settings.images_folder.rglob("*"))
    again = workspace.thread(OTHER, workspace.curation.bring_in(OTHER, file))
    assert again.turns[0].views[0].images == thread.turns[0].views[0].images
    assert not [path for path in workspace.settings.uploads_folder.iterdir() if path.is_dir()]


def test_a_scanners_own_files_stay_and_say_so(workspace, tmp_path):
    """What may hold names does not leave: the regions go along without losses, with the reason."""
    vendors.write_mirax(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "slide.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path / "in").as_posix())
    digest = workspace.take_upload(ME, tmp_path / "slide.zip")
    view = SlideView(digest, Region(200, 100, 400, 350))
    with workspace.slides.borrow(digest) as slide:
        expected = draw_region(slide, view.region)
        little = draw_region(slide, whole_slide(slide).region)
    file, thread = back_and_forth(workspace, asked(workspace, view), tmp_path)
    assert made.NAME.encode() not in file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        assert all(made.NAME.encode() not in archive.read(name) for name in names)
    assert not [name for name in names if "original" in name or name.endswith((".mrxs", ".dat", ".ini"))]
    back = shown_from_json(thread.turns[0].views[0].view)
    with workspace.slides.borrow(back.slide) as slide:
        keys = {found.key for found in slide.findings}
        assert "finding.excerpt_original" in keys
        assert "finding.original_kept" not in keys
        assert np.array_equal(draw_region(slide, back.region), expected)
        assert np.abs(draw_region(slide, whole_slide(slide).region).astype(int) - little).max() <= 2


@pytest.mark.usefixtures("small")
def test_what_did_not_come_along_is_drawn_in_little(workspace, tmp_path):
    """Outside of the regions the excerpt shows the same tissue, less sharp, and never white."""
    path = made.write_huge(tmp_path / "huge.tif", 40_000, 30_000)
    digest = workspace.take_upload(ME, path)
    region = Region(10_000, 8000, 500, 400)
    _, thread = back_and_forth(workspace, asked(workspace, SlideView(digest, region)), tmp_path)
    back = shown_from_json(thread.turns[0].views[0].view)
    with workspace.slides.borrow(back.slide) as slide:
        far = draw_region(slide, Region(30_000, 20_000, 600, 500))
        assert far.min() < 200
        assert far.std() > 0
    size = sum(path.stat().st_size for path in (workspace.settings.images_folder / back.slide).iterdir())
    assert size < 12 * 2**20, "the index of all tiles and little else"


def test_slides_that_were_changed_on_the_way_are_refused(workspace, tmp_path):
    """A slide whose record asks for too much, names a file of its own, or whose tiles differ is not taken."""
    digest = workspace.take_upload(ME, SVS)
    file = workspace.curation.export(ME, asked(workspace, views_of(digest)[0]))
    images = set(workspace.settings.images_folder.iterdir())
    for change in (
        {"original": "slide.mrxs", "codings": []},
        {"levels": [{"size": [2**40, 2**40], "downsample": 1.0, "tile": [256, 256]}]},
        {"findings": [{"key": "finding.levels_added", "values": {"count": "x" * 99}}]},
        {"findings": [{"key": "finding.levels_added", "values": {}}]},
        {"tiles_sha256": "0" * 64},
        {"version": 9},
    ):
        with pytest.raises(ArchiveError):
            workspace.curation.bring_in(OTHER, changed(file, tmp_path / "bad.zip", change))
        assert set(workspace.settings.images_folder.iterdir()) == images
    assert workspace.curation.threads(OTHER).threads == ()


def changed(file, target, change):
    """Write the archive again with another record of its slide, its sums made right."""
    import hashlib

    with zipfile.ZipFile(file) as source, zipfile.ZipFile(target, "w") as archive:
        record = json.loads(source.read("conversation.json"))
        slide = json.loads(source.read("images/0/slide.json")) | change
        raw = json.dumps(slide).encode()
        record["images"][0]["sha256"]["slide.json"] = hashlib.sha256(raw).hexdigest()
        for name in source.namelist():
            if name not in {"conversation.json", "images/0/slide.json"}:
                archive.writestr(name, source.read(name))
        archive.writestr("images/0/slide.json", raw)
        archive.writestr("conversation.json", json.dumps(record))
    return target
