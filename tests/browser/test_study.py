"""Whole studies in the page: folders opened, scrolled, windowed, cut, measured, asked about, found again."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import expect

from tests.browser.conftest import ask, held, upload
from tests.browser.made import COUNT, SIZE, SPACING_MM, STEP_MM, series, value_at

VIEWER = "import('/page/js/viewer.js').then((m) => m.viewer{0})"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """One study of two series, in folders whose names name somebody."""
    root = tmp_path_factory.mktemp("SMITH_JOHN")
    study = series(root / "CT 1", number=3)
    series(root / "CT 2", number=7, study=study, count=4)
    (root / "letter.txt").write_text("nothing to see")
    return root


@pytest.fixture
def opened(open_page, folder):
    """Open the folder in a new page."""

    def open_one(**options):
        page = open_page(**options)
        open_folder(page, folder)
        return page

    return open_one


def open_folder(page, folder, series_count=2):
    page.set_input_files("#viewer .folder", str(folder))
    expect(page.locator("#viewer .strip-image")).to_have_count(series_count)
    expect(page.locator("#viewer .progress")).to_be_hidden()
    expect(corner(page)).to_contain_text(f"1/{COUNT}")


def corner(page, pane=0):
    return page.locator("#viewer .pane").nth(pane).locator(".corner.end")


def view(page):
    return page.evaluate(VIEWER.format(".view()"))


def comes_back(page, shown):
    """Wait until what is on screen is what was shown then."""
    for _ in range(60):
        if view(page) == shown:
            return
        page.wait_for_timeout(250)
    assert view(page) == shown


def press(page, key, times=1):
    for _ in range(times):
        page.locator("#viewer .pane.active .pixels, #viewer .pixels").first.press(key)


def link(page):
    """Show the three planes beside the slices, and wait until each is here and linked."""
    page.locator("#viewer [data-do=mpr]").click()
    expect(page.locator("#viewer .pane")).to_have_count(4)
    expect(page.locator("#viewer .crosshair")).to_have_count(4)


def drag(page, start, end, pane=0):
    """Drag between two points given in pixels of the image."""
    script = """async ([at, points]) => {
      const { viewer } = await import('/page/js/viewer.js');
      const pane = viewer.study.layout.panes[at];
      const box = pane.canvas.getBoundingClientRect();
      const toPage = ([x, y]) => [box.left + x, box.top + y];
      return points.map((one) => toPage(pane.painter.toScreen(...one)));
    }"""
    (x0, y0), (x1, y1) = page.evaluate(script, [pane, [start, end]])
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=4)
    page.mouse.up()


def test_a_folder_opens_as_a_study(open_page, folder):
    """Both series stand in the list with their counts, sorted by place; no name is sent or shown."""
    sent = []
    page = open_page()
    page.on("request", lambda one: sent.append((one.url, dict(one.headers), one.post_data_buffer)))
    open_folder(page, folder)
    cards = page.locator("#viewer .strip-image")
    assert [card.inner_text() for card in cards.all()] == [f"{COUNT}\nCT #3", "4\nCT #7"]
    expect(page.locator("#viewer .corner.start")).to_contain_text("CT · CHEST · #3")
    # file names are in another order than the slices
    expect(page.locator("#viewer .corner.top-end")).to_contain_text("Z 0 mm")
    press(page, "End")
    expect(page.locator("#viewer .corner.top-end")).to_contain_text(f"Z {(COUNT - 1) * STEP_MM:g} mm")
    assert "SMITH" not in page.content()
    bodies = [body for url, _, body in sent if url.endswith("/files")]
    assert bodies
    assert all(name not in str(sent) for name in ("SMITH_JOHN", "CT 1", "CT%201", "IM0", "letter.txt"))


def test_a_study_takes_the_place_of_what_was_on_screen(open_page, folder, ct_file):
    """However fast it is read, and when it is open already; a question would go out about the old image."""
    page = open_page()
    upload(page, ct_file)
    open_folder(page, folder, 3)
    page.locator("#viewer .strip-image").nth(2).click()
    expect(corner(page)).to_contain_text("1/4")
    open_folder(page, folder, 3)


def test_scrolling_cine_and_windows(opened):
    """Wheel, keys and cine turn slices; number keys choose windows and the choice stays while scrolling."""
    page = opened()
    press(page, "ArrowDown", 2)
    expect(corner(page)).to_contain_text(f"3/{COUNT}")
    press(page, "2")
    chosen = view(page)["window"]
    press(page, "PageDown")
    expect(corner(page)).to_contain_text(f"{min(12, COUNT - 1) + 1}/{COUNT}")
    assert view(page)["frame"] == min(12, COUNT - 1)
    assert view(page)["window"] == chosen
    press(page, "Home")
    page.locator("#viewer .rates").select_option("30")
    page.locator("#viewer .play").click()
    expect(page.locator("#viewer .play")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"({VIEWER.format('.view().frame')}).then((frame) => frame > 1)")
    press(page, "ArrowDown")
    expect(page.locator("#viewer .play")).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("keys", [["]"], ["h"], ["]", "h"], ["v", "["], ["]", "]", "h"]])
def test_turned_pictures_are_those_the_model_is_given(opened, keys):
    """After turning and flipping, the canvas at 1:1 is the server's picture of the view; marks too."""
    page = opened()
    for key in keys:
        press(page, key)
    page.locator("#viewer [data-do=actual]").click()
    page.wait_for_timeout(200)
    drawn = page.evaluate("""async () => {
      const { viewer } = await import('/page/js/viewer.js');
      const { painter, marks } = viewer.study.layout.active;
      const { left, top } = painter.placement;
      const { rows, columns } = painter.source;
      const [width, height] = viewer.view().rotation % 180 ? [rows, columns] : [columns, rows];
      let text = '';
      for (const level of painter.context.getImageData(left, top, width, height).data) {
        text += String.fromCharCode(level);
      }
      const [right, bottom] = [marks.right.textContent, marks.bottom.textContent];
      return { size: [height, width], data: btoa(text), view: viewer.view(), right, bottom };
    }""")
    answer = page.request.get(f"{page.url}shown/render", params={"view": json.dumps(drawn["view"])})
    expected = np.asarray(Pillow.open(io.BytesIO(answer.body())).convert("RGB"))
    pixels = np.frombuffer(base64.b64decode(drawn["data"]), np.uint8).reshape(*drawn["size"], 4)
    assert np.array_equal(pixels[:, :, :3], expected)
    # the bright corner of the phantom lies to the left (L) and back (P) of the patient
    bright = np.argwhere(expected[:, :, 0] == 255).mean(axis=0) / expected.shape[:2]
    sides = {"bottom": bright[0] > 0.5, "right": bright[1] > 0.5}
    for side, is_bright in sides.items():
        assert (drawn[side] in "LP") == is_bright, (side, drawn["view"])


def test_linked_planes(opened):
    """Three planes and the slices follow one place; a plane on screen is what is asked about."""
    page = opened()
    link(page)
    panes = page.locator("#viewer .pane")
    for at, name in enumerate(("Axial", "Coronal", "Sagittal")):
        expect(panes.nth(at).locator(".corner.top-end")).to_contain_text(name)
    marks = [panes.nth(1).locator(f".mark.{side}").inner_text() for side in ("left", "top")]
    assert marks == ["R", "H"]
    drag(page, (10.5, 20.5), (12.5, 24.5))
    place = [12 * SPACING_MM, 24 * SPACING_MM]
    expect(panes.nth(2).locator(".corner.top-end")).to_contain_text(f"X {place[0]:g} mm")
    expect(panes.nth(1).locator(".corner.top-end")).to_contain_text(f"Y {place[1]:g} mm")
    # scrolling the axial plane moves the slices too
    panes.nth(0).locator(".pixels").press("ArrowDown")
    expect(corner(page, 3)).to_contain_text(f"2/{COUNT}")
    panes.nth(1).locator(".pixels").focus()
    assert view(page)["plane"] == {
        "plane": "coronal",
        "position_mm": place[1],
        "projection": "none",
        "thickness_mm": 0,
    }
    page.locator("#viewer .projection").select_option("mip")
    expect(panes.nth(1).locator(".corner.top-end")).to_contain_text("MIP 10 mm")
    # the window is one for all
    press(page, "3")
    windows = page.evaluate(VIEWER.format(".study.layout.panes.map((pane) => pane.view().window)"))
    assert all(window == windows[0] for window in windows)


def test_measuring_and_putting_it_into_the_question(opened):
    """Values come from the original pixels; they are listed, drawn, put into a question and kept with it."""
    page = opened()
    page.locator("#viewer [data-tool=length]").click()
    drag(page, (4, 4), (24, 4))
    listed = page.locator("#viewer .measure bdi")
    expect(listed).to_have_text([f"Length: {20 * SPACING_MM:g} mm"])
    page.locator("#viewer [data-tool=rectangle]").click()
    drag(page, (2, 2), (6, 6))
    expect(listed.nth(1)).to_contain_text(f"mean {value_at(0, 3, 3):g} HU, SD 0 HU")
    expect(page.locator("#viewer .measured-text").first).to_have_text(f"{20 * SPACING_MM:g} mm")
    page.locator("#viewer .measure").first.get_by_role("button", name="Put into the question").click()
    question = page.locator("#chat .question")
    expect(question).to_have_value(re.compile(f"Length: {20 * SPACING_MM:g} mm"))
    question.press("End")
    question.press("Enter")
    expect(page.locator("#chat .answer")).to_contain_text(f"Length: {20 * SPACING_MM:g} mm")
    page.wait_for_timeout(300)
    page.locator("#viewer .measure").nth(1).get_by_role("button", name="Delete measurement").click()
    expect(listed).to_have_count(1)
    page.reload()
    page.locator("#history .thread-open").first.click()
    expect(listed).to_have_text([f"Length: {20 * SPACING_MM:g} mm"])
    expect(page.locator("#viewer .strip-image")).to_have_count(2)


def test_a_measurement_goes_with_its_own_first_question_only(opened):
    """Opening another conversation, or pressing "new" again, neither moves it there nor loses it."""
    page = opened()
    ask(page, "An old conversation")
    page.locator("#history .new-thread").click()
    page.locator("#viewer [data-tool=length]").click()
    drag(page, (4, 4), (24, 4))
    listed = page.locator("#viewer .measure bdi")
    expect(listed).to_have_count(1)
    with page.expect_response("**/measure?thread=*") as asked:
        page.locator("#history .thread-open").first.click()
    assert asked.value.json() == {"measurements": []}
    expect(listed).to_have_count(0)
    page.locator("#history .new-thread").click()
    expect(listed).to_have_count(1)
    page.locator("#history .new-thread").click()
    expect(listed).to_have_count(1)
    ask(page, "How long is it?")
    expect(listed).to_have_text([f"Length: {20 * SPACING_MM:g} mm"])
    page.locator("#history .thread-open").nth(1).click()
    expect(listed).to_have_count(0)
    page.locator("#history .thread-open").first.click()
    expect(listed).to_have_count(1)
    page.locator("#history .new-thread").click()
    expect(listed).to_have_count(0)


def test_drawing_by_keyboard(opened):
    """A region and an angle are drawn with arrows and Enter alone."""
    page = opened()
    press(page, "g")
    for key, times in (("Enter", 2), ("Shift+ArrowRight", 1), ("ArrowDown", 4), ("Enter", 1)):
        press(page, key, times)
    middle = SIZE // 2
    assert view(page)["region"] == {"x": middle, "y": middle, "width": 10, "height": 4}
    press(page, "Escape")
    assert view(page)["region"] is None
    press(page, "a")
    for key, times in (("Enter", 2), ("ArrowRight", 5), ("Enter", 1), ("ArrowDown", 5), ("Enter", 1)):
        press(page, key, times)
    expect(page.locator("#viewer .measure bdi")).to_have_text(["Angle: 90°"])


def test_evidence_puts_the_viewer_back(opened):
    """Slice, window, region, turn and rule are back after one click; so is a plane."""
    page = opened()
    press(page, "ArrowDown", 3)
    press(page, "2")
    press(page, "]")
    press(page, "h")
    press(page, "g")
    drag(page, (5, 5), (20, 18))
    first = view(page)
    assert (first["frame"], first["rotation"], first["flipped"]) == (3, 270, True)
    assert first["region"]["width"] > 10
    ask(page, "What is marked?")
    press(page, "r")
    press(page, "Home")
    link(page)
    page.locator("#viewer .pane").nth(2).locator(".pixels").press("ArrowDown")
    middle = f"X {(SIZE // 2 + 1) * SPACING_MM:g} mm"
    expect(page.locator("#viewer .pane").nth(2).locator(".corner.top-end")).to_contain_text(middle)
    plane = view(page)
    assert plane["plane"]["plane"] == "sagittal"
    ask(page, "And here?")
    page.locator("#viewer .strip-image").nth(1).click()
    expect(page.locator("#viewer .pane")).to_have_count(1)
    links = page.locator("#chat .evidence")
    links.nth(1).click()
    expect(page.locator("#viewer .corner.top-end")).to_contain_text("Sagittal")
    comes_back(page, plane)
    links.nth(0).click()
    expect(corner(page)).to_contain_text(f"4/{COUNT}")
    comes_back(page, first)


def test_chosen_slices_are_asked_about_together(opened):
    """Chosen slices make a montage with their numbers; it is what is asked about, until none is chosen."""
    page = opened()
    press(page, "s")
    press(page, "End")
    expect(corner(page)).to_contain_text(f"{COUNT}/{COUNT}")
    press(page, "s")
    assert view(page)["labels"] == ["1", str(COUNT)]
    page.locator("#viewer .tray .strip-image").first.click()  # looked at, and still chosen
    expect(corner(page)).to_contain_text(f"1/{COUNT}")
    assert view(page)["labels"] == ["1", str(COUNT)]
    page.get_by_role("button", name="As the model sees it").click()
    expect(page.locator("#viewer .preview img")).to_be_visible()
    ask(page, "What differs?")
    expect(page.locator("#chat .evidence-label")).to_have_text([f"2 × [1, {COUNT}]"])
    page.get_by_role("button", name="Choose none").click()
    expect(page.locator("#viewer .preview")).to_be_hidden()
    assert "montage" not in view(page)
    page.locator("#chat .evidence").click()
    expect(page.locator("#viewer .preview img")).to_be_visible()
    assert view(page)["labels"] == ["1", str(COUNT)]


def test_more_slices_than_fit_are_refused_aloud(opened):
    """One more than a montage holds is not chosen, and the page says so."""
    page = opened()
    page.evaluate(
        """async () => {
          const { viewer } = await import('/page/js/viewer.js');
          const view = viewer.view();
          const part = (x) => ({ ...view, region: { x, y: 0, width: 2, height: 2 } });
          viewer.study.tray.set(Array.from({ length: 36 }, (_, at) => part(at)));
        }"""
    )
    press(page, "s")
    expect(page.locator(".notice").last).to_contain_text("At most 36 slices")
    assert len(view(page)["montage"]) == 36


def test_two_series_side_by_side(opened):
    """Two images stand beside each other and are asked about as one picture, which comes back as two."""
    page = opened()
    page.locator("#viewer [data-do=compare]").click()
    page.locator("#viewer .pane").nth(1).locator(".pixels").click()
    page.locator("#viewer .strip-image").nth(1).click()
    expect(corner(page, 1)).to_contain_text("1/4")
    shown = view(page)
    assert shown["labels"] == ["A", "B"]
    assert len({one["image"] for one in shown["montage"]}) == 2
    ask(page, "What has changed?")
    page.locator("#viewer [data-do=single]").click()
    assert "montage" not in view(page)
    page.locator("#chat .evidence").click()
    expect(page.locator("#viewer .pane")).to_have_count(2)
    expect(corner(page, 1)).to_contain_text("1/4")
    comes_back(page, shown)


def test_a_zip_opens_and_bad_files_are_named_here(open_page, folder, tmp_path):
    """An archive is one upload; a damaged file is named as it is on this machine, and the rest opens."""
    archive = tmp_path / "ABBOTT.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.write(path, path.relative_to(folder))
        made.writestr("broken/IM9", (folder / "CT 1" / "IM0000").read_bytes()[:700])
    page = open_page()
    page.set_input_files("#viewer .file", str(archive))
    expect(page.locator("#viewer .strip-image")).to_have_count(2)
    expect(page.locator(".notice")).to_contain_text(["ABBOTT.zip"])


def test_a_study_can_be_cancelled(open_page, tmp_path):
    """Cancel gives the upload up; the page is ready for another."""
    series(tmp_path / "many", number=1, count=120)
    page = open_page()
    with held(page, "**/studies/*/files"):
        page.set_input_files("#viewer .folder", str(tmp_path / "many"))
        expect(page.locator("#viewer .progress")).to_be_visible()
        page.locator("#viewer .progress-cancel").click()
        expect(page.locator("#viewer .progress")).to_be_hidden()
    expect(page.locator(".notice")).to_contain_text("stopped")
    expect(page.locator("#viewer .drop-hint")).to_be_visible()


def test_the_arabic_page_does_not_mirror_the_patient(opened):
    """In a right-to-left page the right of the patient stays on the left, in every pane and measurement."""
    page = opened(locale="ar")
    link(page)
    for at in (0, 1, 3):
        pane = page.locator("#viewer .pane").nth(at)
        left, right = (pane.locator(f".mark.{side}").bounding_box()["x"] for side in ("left", "right"))
        assert left < right
        assert pane.locator(".mark.left").inner_text() == "R"
    for choice in (".rates", ".projection", ".presets"):  # words, which are Arabic
        expect(page.locator(f"#viewer {choice}")).to_have_attribute("dir", "rtl")
    boxes = [page.locator("#viewer .pane").nth(at).bounding_box()["x"] for at in (0, 1)]
    assert boxes[0] < boxes[1]
    page.locator("#viewer [data-do=single]").click()
    page.locator("#viewer [data-tool=length]").click()
    drag(page, (4, 4), (24, 4))
    expect(page.locator("#viewer .measure bdi")).to_have_text([f"الطول: \u2068{20 * SPACING_MM:g} mm\u2069"])


def test_three_windows_as_colours(opened):
    """The rule changes the picture itself, and is stated on screen and in the view."""
    page = opened()
    expect(page.locator("#viewer .corner.bottom-start")).to_contain_text("Model: as displayed")
    page.locator("#viewer .overflow").click()
    page.get_by_role("menuitem", name="Three CT windows").click()
    assert view(page)["rule"] == {"name": "three_windows", "channels": ["lung", "soft_tissue", "bone"]}
    expect(page.locator("#viewer .corner.bottom-start")).to_contain_text(
        "Model: R Lung · G Soft tissue · B Bone"
    )
    page.locator("#viewer [data-do=actual]").click()
    page.wait_for_timeout(200)
    pixel = page.evaluate("""async () => {
      const { painter } = (await import('/page/js/viewer.js')).viewer.study.layout.active;
      const { left, top } = painter.placement;
      return [...painter.context.getImageData(left + 3, top + 3, 1, 1).data];
    }""")
    answer = page.request.get(f"{page.url}shown/render", params={"view": json.dumps(view(page))})
    assert pixel[:3] == list(Pillow.open(io.BytesIO(answer.body())).convert("RGB").getpixel((3, 3)))
    assert len(set(pixel[:3])) > 1


def test_what_does_not_fit_the_bar_stands_in_a_menu(opened):
    """On a narrow page every action is still reached."""
    page = opened(size=(900, 800))
    page.locator("#viewer .overflow").click()
    page.get_by_role("menuitem", name="Exchange top and bottom").click()
    assert (view(page)["rotation"], view(page)["flipped"]) == (180, True)
