"""Files as they come: discs with a DICOMDIR, archives, NIfTI, hostile names, wrong ones among right ones."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody uses
from playwright.sync_api import expect
from pydicom import dcmread
from pydicom.fileset import FileSet

from i18n.catalogue import Catalogue
from tests.browser.conftest import ask, from_menu, held
from tests.browser.made import COUNT, series

TEXT = Catalogue().text
DROP = """async ([names, contents]) => {
  const data = new DataTransfer();
  names.forEach((name, at) => {
    const bytes = Uint8Array.from(atob(contents[at]), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name));
  });
  for (const kind of ['dragover', 'drop']) {
    document.querySelector('#chat').dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true }));
  }
}"""
HOSTILE = [
    '<img src=x onerror="document.documentElement.dataset.hit=1">.dcm',
    "\u202egnp.exe\u202c.dcm",
    "${document.documentElement.dataset.hit=1}.dcm",
    "SMITH^JOHN 1970-01-01.dcm",
]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Make a disc as a hospital writes it: DICOMDIR, a viewer nobody asked for, and two series."""
    root = tmp_path_factory.mktemp("made")
    study = series(root / "1", number=1)
    series(root / "2", number=2, study=study, count=4)
    files = FileSet()
    for path in sorted(root.rglob("IM*")):
        dataset = dcmread(path)
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20240301", "101500", "1"
        dataset.AccessionNumber = dataset.StudyDescription = dataset.SeriesDescription = ""
        dataset.InstanceNumber = int(path.name[2:]) + 1
        files.add(dataset)
    disc = tmp_path_factory.mktemp("disc")
    files.write(disc)
    files._stage["t"].cleanup()  # left to the garbage collector, which warns
    (disc / "VIEWER").mkdir()
    (disc / "VIEWER" / "START.EXE").write_bytes(b"MZ" + bytes(400))
    (disc / "AUTORUN.INF").write_text("[autorun]\nopen=VIEWER\\START.EXE\n")
    return disc


def series_shown(page, counts):
    """Wait for a list of series with so many slices each."""
    cards = page.locator("#viewer .strip-count")
    expect(cards).to_have_text([str(count) for count in counts])
    expect(page.locator("#viewer .progress")).to_be_hidden()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_disc_with_a_dicomdir(open_page, media, tmp_path, form):
    """Both series open; what else lies on the disc is no reason to complain."""
    page = open_page()
    if form == "folder":
        page.set_input_files("#viewer .folder", str(media))
    else:
        archive = tmp_path / "disc.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
            for path in sorted(media.rglob("*")):
                if path.is_file():
                    made.write(path, path.relative_to(media))
        page.evaluate(DROP, [["disc.zip"], [base64.b64encode(archive.read_bytes()).decode()]])
    series_shown(page, [COUNT, 4])
    expect(page.locator("#viewer .corner.end")).to_contain_text(f"1/{COUNT}")
    assert "EXE" not in page.locator("body").inner_text()


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_a_dicomdir_alone_says_what_is_missing(open_page, media, locale):
    """The index without its files opens nothing and says that the folder is needed."""
    page = open_page(locale=locale)
    page.set_input_files("#viewer .file", str(media / "DICOMDIR"))
    expect(page.locator(".notice p")).to_have_text(TEXT("ui.dicomdir_alone", locale))
    expect(page.locator("#viewer .drop-hint")).to_be_visible()


def test_hostile_names_are_only_names(open_page, ct_file):
    """Dropped files may be called anything: they open, nothing runs, and no name leaves this machine."""
    page = open_page()
    sent = []
    page.on("request", lambda one: sent.append((one.url, one.post_data_buffer)))
    content = base64.b64encode(Path(ct_file).read_bytes()).decode()
    broken = base64.b64encode(Path(ct_file).read_bytes()[:900]).decode()
    page.evaluate(DROP, [HOSTILE, [broken, broken, broken, content]])
    expect(page.locator("#viewer .corner.start")).to_contain_text("CT")
    expect(page.locator(".notice").first).to_be_visible()
    assert page.evaluate("document.documentElement.dataset.hit") is None
    assert page.locator(".notice img").count() == 0
    assert not [url for url, body in sent if "SMITH" in url or (body and b"SMITH^JOHN 1970" in body)]
    open_page.seen.clear()  # the browser reports refusals


def test_a_nifti_volume(open_page, tmp_path):
    """A volume without DICOM opens as slices, is cut in three planes and asked about."""
    path = tmp_path / "volume.nii.gz"
    voxels = np.arange(20 * 24 * 28, dtype=np.int16).reshape(20, 24, 28)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    page = open_page()
    page.set_input_files("#viewer .file", str(path))
    expect(page.locator("#viewer .corner.end")).to_contain_text("/20")
    page.locator("#viewer [data-do=mpr]").click()
    expect(page.locator("#viewer .pane")).to_have_count(4)
    expect(page.locator("#viewer .corner.top-end").nth(2)).to_contain_text("Sagittal")
    ask(page, "What is this?")
    expect(page.locator("#chat .answer")).to_contain_text("1 image(s)")


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_wrong_files_among_right_ones(open_page, ct_file, tmp_path, locale):
    """The right ones open; each wrong one is named with what to do about it."""
    (tmp_path / "letter.docx").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "cut.dcm").write_bytes(Path(ct_file).read_bytes()[:5000])
    page = open_page(locale=locale)
    wrong = [str(tmp_path / name) for name in ("letter.docx", "empty.dcm", "cut.dcm")]
    page.set_input_files("#viewer .file", [ct_file, *wrong])
    expect(page.locator("#viewer .corner.start")).to_contain_text("CT")
    expect(page.locator("#viewer .progress")).to_be_hidden()
    said = page.locator(".notice p").all_inner_texts()
    assert len(said) == 3
    for name in ("letter.docx", "empty.dcm", "cut.dcm"):
        assert any(name in text for text in said), (name, said)
    open_page.seen.clear()  # the browser reports refusals


@pytest.mark.parametrize("locale", ["en", "ar"])
def test_time_left_of_a_slow_upload(open_page, media, locale):
    """What takes more than five seconds says how long it will take, in both languages."""
    page = open_page(locale=locale)
    script = """async () => {
      const { Remaining } = await import('/page/js/remaining.js');
      let now = 0;
      const remaining = new Remaining(() => now);
      const told = [];
      for (const share of [0, 0.02, 0.1, 0.2, 0.3, 0.9]) { told.push(remaining.told(share)); now += 1000; }
      return told;
    }"""
    assert page.evaluate(script) == [None, None, 18, 12, 10, 1]
    with held(page, "**/studies/*/files"):
        page.set_input_files("#viewer .folder", str(media))
        expect(page.locator("#viewer .progress-text")).to_be_visible()
        page.set_input_files("#viewer .file", str(media / "DICOMDIR"))
        expect(page.locator(".notice")).to_have_text(TEXT("ui.still_reading", locale))
        page.locator(".notice .tool").click()
        page.locator("#viewer .progress-cancel").click()
        expect(page.locator("#viewer .progress")).to_be_hidden()
        expect(page.locator(".notice")).to_have_text(TEXT("ui.study_cancelled", locale))


def test_what_takes_its_time_says_so(open_page, ct_file, media):
    """A slow import, a slow export and a slice on its way are told; nothing of it stays behind."""
    page = open_page()
    ask(page, "Something to keep")
    for pattern, begin, key in (
        ("**/history/threads/*/export", lambda: from_menu(page, "ui.export"), "ui.exporting"),
        ("**/history/import", lambda: page.set_input_files("#history .import-file", ct_file), "ui.importing"),
    ):
        with held(page, pattern):
            begin()
            expect(page.locator(".notice.working p")).to_have_text(TEXT(key, "en"))
        expect(page.locator(".notice.working")).to_have_count(0)
        expect(page.locator(".notice")).to_be_visible()
        page.locator(".notice .tool").click()
    with held(page, "**/frames/*"):
        page.set_input_files("#viewer .folder", str(media))
        expect(page.locator("#viewer .waiting")).to_have_text(TEXT("ui.loading", "en"))
    open_page.seen.clear()  # requests that were given up
