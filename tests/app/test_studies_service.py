"""Studies over HTTP: taken in without names, read in the background, kept as images of their owner."""

from __future__ import annotations

import struct
import time

import pytest

from tests.app.test_web import make_client
from tests.browser.made import COUNT, series
from viewers.shown import shown_from_json


def send(client, folder, extra=()):
    """Upload a folder's files, read them, and wait for the end."""
    upload = client.post("/studies").json()["id"]
    contents = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
    body = b"".join(struct.pack("<IQ", n, len(data)) + data for n, data in enumerate([*contents, *extra]))
    assert client.post(f"/studies/{upload}/files", content=body).status_code == 200
    assert client.post(f"/studies/{upload}/read").json()["state"] == "reading"
    for _ in range(600):
        state = client.get(f"/studies/{upload}").json()
        if state["state"] != "reading":
            return upload, state
        time.sleep(0.05)
    pytest.fail("the study was not read")


@pytest.fixture
def folder(tmp_path):
    study = series(tmp_path / "a", number=3)
    series(tmp_path / "b", number=4, study=study, count=4)
    return tmp_path


def test_series_become_images_and_bad_files_are_named_by_number(workspace, folder):
    """Two series, one study; the damaged file is told by its number, and one image brings back its study."""
    client = make_client(workspace)
    broken = (folder / "a" / "IM0000").read_bytes()[:700]
    upload, state = send(client, folder / "a", [broken])
    assert (state["state"], state["error"]) == ("done", None)
    assert [one["frames"] for one in state["series"]] == [COUNT]
    assert str(COUNT) in {one["file"] for one in state["findings"]}
    _, other = send(client, folder / "b")
    digests = [state["series"][0]["digest"], other["series"][0]["digest"]]
    assert client.get(f"/images/{digests[0]}").json()["frames"] == COUNT
    assert client.get(f"/studies?images={digests[1]}").json() == {"images": digests}
    kept = {image.digest: image for image in workspace.history.images("local")}
    assert len({kept[one].study for one in digests}) == len({kept[one].patient for one in digests}) == 1
    assert kept[digests[0]].patient
    geometry = client.get(f"/images/{digests[0]}/geometry").json()
    assert geometry["planes"]["axial"]["count"] == COUNT
    # the slice that was shown alone is gone once the page is done with the upload
    first = state["first"]
    assert client.get(f"/images/{first}").status_code == 200
    assert client.delete(f"/studies/{upload}").status_code == 200
    assert client.get(f"/images/{first}").status_code == 404
    assert not list(workspace.settings.uploads_folder.iterdir())


def test_another_owner_has_neither_upload_nor_images(workspace, folder):
    """Somebody else's upload, images and measurements look like missing ones."""
    first = make_client(workspace, ownership="visitor")
    second = make_client(workspace, ownership="visitor")
    for one in (first, second):
        one.get("/")
    upload, state = send(first, folder / "b")
    digest = state["series"][0]["digest"]
    for path in (f"/studies/{upload}", f"/images/{digest}", f"/images/{digest}/geometry"):
        assert second.get(path).status_code == 404
    assert second.get(f"/studies?images={digest}").json() == {"images": []}
    assert second.post(f"/studies/{upload}/read").status_code == 404


def test_limits_of_files_and_bytes(workspace):
    """More files or bytes than may arrive are refused, in both languages."""
    client = make_client(workspace, max_study_files=2, max_study_bytes=100)
    workspace.studies._settings = workspace.settings
    upload = client.post("/studies").json()["id"]
    for number, length in ((2, 1), (0, 101)):
        answer = client.post(f"/studies/{upload}/files", content=struct.pack("<IQ", number, length))
        assert answer.status_code in (413, 422)
        assert set(answer.json()["error"]) == {"en", "ar"}
    client.delete(f"/studies/{upload}")
    assert client.get(f"/studies/{upload}").json()["state"] == "cancelled"


def test_a_study_goes_with_its_last_conversation(workspace, folder):
    """Series nobody asked about stay while a conversation shows something of the study, and go with it."""
    client = make_client(workspace)
    upload, state = send(client, folder)
    client.delete(f"/studies/{upload}")
    first, second = (one["digest"] for one in state["series"])
    threads = []
    for digest in (first, first, second):
        view = shown_from_json(client.get(f"/images/{digest}").json()["default_view"])
        *_, last = workspace.ask("local", None, "?", [view], "run")
        threads.append(last.thread_id)
    series(folder / "c", number=9, count=3)
    _, other = send(client, folder / "c")
    elsewhere = other["series"][0]["digest"]

    def kept():
        on_disk = {path.name for path in workspace.settings.images_folder.iterdir()}
        assert on_disk == {image.digest for image in workspace.history.images("local")}
        return on_disk - {other["first"]}

    workspace.delete("local", threads[2])
    assert kept() == {first, elsewhere}
    workspace.delete("local", threads[0])
    assert kept() == {first, elsewhere}
    workspace.delete("local", threads[1])
    assert kept() == {elsewhere}


def test_series_nobody_asked_about_go_with_the_conversation(workspace, folder):
    """A conversation about one series takes the other one with it."""
    client = make_client(workspace)
    _, state = send(client, folder)
    view = shown_from_json(client.get(f"/images/{state['series'][0]['digest']}").json()["default_view"])
    *_, last = workspace.ask("local", None, "?", [view], "run")
    assert len(workspace.history.images("local")) >= 2
    workspace.delete("local", last.thread_id)
    assert workspace.history.images("local") == []
    assert not list(workspace.settings.images_folder.iterdir())


def test_measurements_are_kept_with_a_conversation(workspace, folder):
    """Values are measured here; without a conversation nothing is kept, with one it is listed and deleted."""
    client = make_client(workspace)
    _, state = send(client, folder / "b")
    view = client.get(f"/images/{state['series'][0]['digest']}").json()["default_view"]
    shape = {"kind": "length", "points": [[0, 0], [20, 0]]}
    loose = client.post("/measure", json={"view": view, "shape": shape}).json()
    assert loose["id"] is None
    assert loose["measurement"]["quantities"] == [{"name": "length", "value": 30.0, "unit": "mm"}]
    *_, last = workspace.ask("local", None, "?", [shown_from_json(view)], "run")
    kept = client.post("/measure", json={"view": view, "shape": shape, "thread": last.thread_id}).json()
    listed = client.get(f"/measure?thread={last.thread_id}").json()["measurements"]
    assert listed == [kept]
    assert client.delete(f"/measure/{kept['id']}").status_code == 200
    assert client.delete(f"/measure/{kept['id']}").status_code == 404
    assert client.get(f"/measure?thread={last.thread_id}").json() == {"measurements": []}
    assert client.post("/measure", json={"view": view, "shape": {"kind": "length"}}).status_code == 422
