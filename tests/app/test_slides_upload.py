"""Slides among many files: of several files, in folders and zips, beside each other and beside a series."""

from __future__ import annotations

import struct
import time
import zipfile
from pathlib import Path

import pytest

from tests.app.test_web import make_client
from tests.browser.made import COUNT, series
from tests.viewers.openers import made, vendors

SVS = Path(__file__).parents[1] / "data" / "cmu_small_region.svs"


def send(client, folder, *, named):
    """Upload a folder as the page does; returns the last state."""
    upload = client.post("/studies").json()["id"]
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    body = b"".join(
        struct.pack("<IQ", n, path.stat().st_size) + path.read_bytes() for n, path in enumerate(paths)
    )
    assert client.post(f"/studies/{upload}/files", content=body).status_code == 200
    names = [path.relative_to(folder.parent).as_posix() for path in paths] if named else []
    client.post(f"/studies/{upload}/read", json={"names": names})
    for _ in range(1200):
        state = client.get(f"/studies/{upload}").json()
        if state["state"] != "reading":
            return state
        time.sleep(0.05)
    pytest.fail("the files were not read")


def slides_of(client, state):
    """Ask for what the page is told of each slide of an upload."""
    assert state["error"] is None, state["error"]
    infos = [client.get(f"/images/{one['digest']}").json() for one in state["series"] if one["digest"]]
    return [info for info in infos if info["modality"] == "SM" and "levels" in info]


@pytest.mark.parametrize(
    ("write", "size"), [(vendors.write_mirax, (1024, 1024)), (vendors.write_vms, vendors.WHOLE)]
)
def test_a_slide_of_several_files_opens_from_its_folder(write, size, workspace, tmp_path):
    """Files find each other by the names the page sends; none of the names is kept in a record."""
    folder = tmp_path / "CASE^YILMAZ"
    write(folder)
    client = make_client(workspace)
    (info,) = slides_of(client, send(client, folder, named=True))
    assert (info["columns"], info["rows"]) == size
    tile = client.get(f"/slides/{info['digest']}/tiles/{info['levels'] - 1}/0_0.jpeg")
    assert (tile.status_code, tile.headers["content-type"]) == (200, "image/jpeg")
    for _ in range(100):  # the upload's folder goes a moment after its end
        if not list(workspace.settings.uploads_folder.iterdir()):
            return
        time.sleep(0.05)
    pytest.fail("files of the upload were left behind")


def test_dicom_levels_in_several_folders_are_one_slide(workspace, tmp_path):
    """No names are needed: the series says what belongs together, two series are two slides."""
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
    made.write_wsm(tmp_path / "in" / "a", spread=True)
    made.write_wsm(tmp_path / "in" / "b", rgb=made.tissue(400, 300))
    client = make_client(workspace)
    infos = slides_of(client, send(client, tmp_path / "in", named=False))
    assert sorted((info["columns"], info["rows"]) for info in infos) == [
        (400, 300),
        (made.WIDTH, made.HEIGHT),
    ]
    assert all(info["mpp"]["source"] == "DICOM PixelSpacing" for info in infos)


def test_slides_and_a_series_in_one_folder_all_open(workspace, tmp_path):
    """What is no slide is read as a study; what cannot be opened says why and stops nothing else."""
    folder = tmp_path / "in"
    series(folder / "ct", number=3)
    (folder / "slide.svs").write_bytes(SVS.read_bytes())
    vendors.write_mirax(folder / "mrxs")
    vendors.write_vms(folder / "broken")
    (folder / "broken" / "part.jpg").unlink()
    client = make_client(workspace)
    state = send(client, folder, named=True)
    assert len(slides_of(client, state)) == 2
    frames = [one["frames"] for one in state["series"] if one["digest"]]
    assert sorted(frames) == [1, 1, COUNT]
    (error,) = [one["error"]["en"] for one in state["series"] if one["error"]]
    assert "incomplete" in error
    assert "broken" not in error


def test_a_main_file_without_its_files_is_no_picture(workspace, tmp_path):
    """MRXS's main file is a small JPEG: alone it is an incomplete slide and not a photograph."""
    folder = tmp_path / "in"
    vendors.write_mirax(tmp_path / "given")
    folder.mkdir()
    (tmp_path / "given" / "slide.mrxs").rename(folder / "slide.mrxs")
    state = send(make_client(workspace), folder, named=True)
    (one,) = state["series"]
    assert one["digest"] is None
    assert "incomplete" in one["error"]["en"]
    assert "ناقصة" in one["error"]["ar"]


def test_a_zip_of_a_slide_opens(workspace, tmp_path):
    """A zip of a slide with its folder is taken apart below the upload and nowhere else."""
    given, folder = tmp_path / "given", tmp_path / "in"
    folder.mkdir()
    vendors.write_mirax(given)
    with zipfile.ZipFile(folder / "case.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(given.rglob("*")):
            if path.is_file():
                archive.write(path, f"case/{path.relative_to(given)}")
    client = make_client(workspace)
    (info,) = slides_of(client, send(client, folder, named=False))
    assert (info["columns"], info["rows"]) == (1024, 1024)


@pytest.mark.parametrize(
    "name", ["../../../../evil.mrxs", "/etc/evil.mrxs", "a\0b.mrxs", "x" * 5000 + ".mrxs"]
)
def test_names_place_nothing_outside_the_upload(name, workspace, tmp_path):
    """Names from the page are names inside the upload's own folder, whatever they say."""
    client = make_client(workspace)
    upload = client.post("/studies").json()["id"]
    data = made.write_tiff(tmp_path / "a.tif").read_bytes()
    client.post(f"/studies/{upload}/files", content=struct.pack("<IQ", 0, len(data)) + data)
    assert client.post(f"/studies/{upload}/read", json={"names": [name]}).status_code == 200
    for _ in range(400):
        state = client.get(f"/studies/{upload}").json()
        # the upload's folder goes a moment after its end
        if state["state"] != "reading" and not list(workspace.settings.uploads_folder.iterdir()):
            break
        time.sleep(0.05)
    assert state["state"] in {"done", "failed"}
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert not Path("/etc/evil.mrxs").exists()
