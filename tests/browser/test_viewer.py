"""What the viewer draws, and that it draws what the server and the model see."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import expect
from pydicom.data import get_testdata_file

from tests.browser.conftest import ask, upload
from viewers.intake import open_image
from viewers.view import View, render
from viewers.window import CodeMap, VoiLut, Window, build_lut

VIEWER = "import('/page/js/viewer.js').then((m) => m.viewer{0})"
CODE_MAPS = [
    CodeMap(),
    CodeMap(32768.0, 1.0, -1024.0, padding=(0, 30768)),
    CodeMap(0.0, 0.0030518, -17.25),
    CodeMap(table=np.linspace(-3000.0, 900.5, 65536) ** 2 / 7.0),
]
TRANSFORMS = [
    Window(40, 400),
    Window(-600.5, 1),
    Window(127.5, 255, "LINEAR_EXACT"),
    Window(0.25, 0.125, "LINEAR_EXACT"),
    Window(512.0, 800.0, "SIGMOID"),
    VoiLut(-100, tuple(range(0, 4096, 7)), 12),
]


def current_view(page):
    return page.evaluate(VIEWER.format(".view()"))


def drag(page, start, end, **options):
    """Drag inside the image by offsets from its top left corner."""
    box = page.locator("#viewer .pixels").bounding_box()
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down(**options)
    page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=4)
    page.mouse.up(**options)


def map_json(code_map):
    table = code_map.table
    return {
        "offset": code_map.offset,
        "slope": code_map.slope,
        "intercept": code_map.intercept,
        "table": None if table is None else base64.b64encode(table.astype("<f8").tobytes()).decode(),
        "padding": None if code_map.padding is None else list(code_map.padding),
    }


def transform_json(transform):
    if isinstance(transform, Window):
        return {name: getattr(transform, name) for name in ("center", "width", "function", "name")}
    return {"first": transform.first, "table": list(transform.table), "bits": transform.bits}


def test_the_browsers_table_is_the_servers(open_page):
    """Every code gets the same grey level in the browser and in Python, for every function, byte for byte."""
    page = open_page()
    script = """async ([map, transforms, inverted]) => {
      const m = await import('/page/js/study/window.js');
      const text = (grey) => btoa(Array.from(grey, (level) => String.fromCharCode(level)).join(''));
      return transforms.map((one) => text(m.buildLut(map, m.codeValues(map), one, inverted)));
    }"""
    for code_map in CODE_MAPS:
        for inverted in (False, True):
            wanted = [map_json(code_map), [transform_json(one) for one in TRANSFORMS], inverted]
            for transform, drawn in zip(TRANSFORMS, page.evaluate(script, wanted), strict=True):
                expected = build_lut(code_map, transform, inverted=inverted)
                assert base64.b64decode(drawn) == expected.tobytes(), (code_map, transform, inverted)


@pytest.mark.parametrize(
    ("name", "preset"), [("CT_small.dcm", "lung"), ("MR_small.dcm", "auto"), ("examples_rgb_color.dcm", None)]
)
def test_canvas_at_one_to_one_is_the_rendered_view(open_page, name, preset):
    """Pixels on the canvas equal the pixels the model is given."""
    page = open_page()
    upload(page, get_testdata_file(name, download=False))
    if preset:
        page.locator("#viewer .presets").select_option(preset)
    page.locator("#viewer [data-do=actual]").click()
    page.wait_for_timeout(300)
    drawn = page.evaluate("""async () => {
      const { viewer } = await import('/page/js/viewer.js');
      const { left, top, sx } = viewer.painter.placement;
      const { columns, rows } = viewer.painter.source;
      const data = viewer.painter.context.getImageData(left, top, columns, rows).data;
      let text = '';
      for (const level of data) text += String.fromCharCode(level);
      return { sx, columns, rows, data: btoa(text), view: viewer.view() };
    }""")
    assert drawn["sx"] == pytest.approx(1, abs=1e-12)
    pixels = np.frombuffer(base64.b64decode(drawn["data"]), dtype=np.uint8).reshape(
        drawn["rows"], drawn["columns"], 4
    )
    image = open_image(Path(get_testdata_file(name, download=False)))
    assert np.array_equal(pixels[:, :, :3], render(image, View.from_json(drawn["view"])))


def test_picture_of_a_view_is_what_the_viewer_shows(open_page, ct_file):
    """The evidence picture is rendered from the same view the page holds."""
    page = open_page()
    upload(page, ct_file)
    view = {**current_view(page), "region": {"x": 3, "y": 5, "width": 20, "height": 10}}
    query = {"view": json.dumps(view)}
    answer = page.request.get(f"{page.url}shown/render", params=query)
    expected = render(open_image(Path(ct_file)), View.from_json(view))
    assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(answer.body()))), expected)


def test_dragging_changes_the_window(open_page, ct_file):
    """Sideways is width, up and down is centre; the picture is redrawn and the numbers follow."""
    page = open_page()
    upload(page, ct_file)
    before = current_view(page)["window"]
    drag(page, (200, 200), (260, 200))
    wider = current_view(page)["window"]
    assert wider["width"] > before["width"]
    assert wider["center"] == before["center"]
    drag(page, (200, 200), (200, 140))
    lower = current_view(page)["window"]
    assert lower["center"] < wider["center"]
    assert lower["width"] == wider["width"]
    expect(page.locator("#viewer .corner.end")).to_contain_text(f"W {round(lower['width'])}")
    expect(page.locator("#viewer .presets")).to_have_value("")


def test_wheel_and_keys_turn_frames(open_page):
    """Wheel, arrows, Home, End and the slider reach every frame; the view says which one is on screen."""
    page = open_page()
    upload(page, get_testdata_file("rtdose.dcm", download=False))
    corner = page.locator("#viewer .corner.end")
    expect(corner).to_contain_text(re.compile(r"(^|\D)1/15"))
    box = page.locator("#viewer .pixels").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, 100)
    expect(corner).to_contain_text(re.compile(r"(^|\D)2/15"))
    page.locator("#viewer .pixels").press("ArrowDown")
    expect(corner).to_contain_text(re.compile(r"(^|\D)3/15"))
    page.locator("#viewer .pixels").press("End")
    expect(corner).to_contain_text(re.compile(r"(^|\D)15/15"))
    page.locator("#viewer .pixels").press("ArrowDown")
    expect(corner).to_contain_text(re.compile(r"(^|\D)15/15"))
    page.locator("#viewer .frames").fill("4")
    expect(corner).to_contain_text(re.compile(r"(^|\D)5/15"))
    assert current_view(page)["frame"] == 4
    expect(page.locator("#chat .subject")).to_contain_text(re.compile(r"(^|\D)5/15"))


def test_zoom_pan_and_fit(open_page, ct_file):
    """Ctrl and wheel zooms about the pointer, Shift drags the image, a double click fits it again."""
    page = open_page()
    upload(page, ct_file)
    fitted = page.evaluate(VIEWER.format(".painter.placement"))
    box = page.locator("#viewer .pixels").bounding_box()
    x, y = box["x"] + 150, box["y"] + 220
    at = page.evaluate(VIEWER.format(f".painter.toImage({x}, {y})"))
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    zoomed = page.evaluate(VIEWER.format(".painter.placement"))
    assert zoomed["sx"] > fitted["sx"] * 1.5
    still = page.evaluate(VIEWER.format(f".painter.toImage({x}, {y})"))
    assert still == pytest.approx(at, abs=0.5)
    page.keyboard.down("Shift")
    drag(page, (200, 200), (240, 170))
    page.keyboard.up("Shift")
    moved = page.evaluate(VIEWER.format(".painter.placement"))
    assert (moved["left"] - zoomed["left"], moved["top"] - zoomed["top"]) == (40, -30)
    page.mouse.dblclick(x, y)
    assert page.evaluate(VIEWER.format(".painter.placement")) == fitted


def test_keyboard_presets_inversion_and_reset(open_page, ct_file):
    """Number keys choose windows, i inverts, r brings the first view back."""
    page = open_page()
    upload(page, ct_file)
    first = current_view(page)
    pixels = page.locator("#viewer .pixels")
    pixels.press("2")
    assert current_view(page)["window"] != first["window"]
    pixels.press("i")
    assert current_view(page)["inverted"] is not first["inverted"]
    expect(page.locator("#viewer [data-do=invert]")).to_have_attribute("aria-pressed", "true")
    pixels.press("r")
    page.wait_for_timeout(200)
    assert current_view(page) == first


def test_region_is_in_image_pixels_and_clears(open_page, ct_file):
    """A region drawn on screen covers the pixels under it; Escape takes it away."""
    page = open_page()
    upload(page, ct_file)
    page.locator("#viewer [data-tool=region]").click()
    box = page.locator("#viewer .pixels").bounding_box()
    start = page.evaluate(VIEWER.format(f".painter.toImage({box['x'] + 200}, {box['y'] + 200})"))
    drag(page, (200, 200), (330, 300))
    region = current_view(page)["region"]
    assert (region["x"], region["y"]) == (int(start[0]), int(start[1]))
    assert region["width"] > region["height"] > 2
    expect(page.locator("#chat .subject")).to_contain_text(f"{region['width']}×{region['height']} px")
    expect(page.get_by_role("button", name="What is in the marked region?")).to_be_visible()
    page.locator("#viewer .pixels").press("Escape")
    assert current_view(page)["region"] is None


def test_edge_marks_and_square_pixels(open_page, ct_file):
    """Letters of the patient's sides stand at the edges, in both languages on the same side."""
    page = open_page(locale="ar")
    upload(page, ct_file)
    marks = {
        side: page.locator(f"#viewer .mark.{side}").inner_text()
        for side in ("left", "right", "top", "bottom")
    }
    assert marks == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    left = page.locator("#viewer .mark.left").bounding_box()["x"]
    assert left < page.locator("#viewer .mark.right").bounding_box()["x"]
    page.locator("#header .language").click()
    assert page.locator("#viewer .mark.left").inner_text() == "R"


def test_several_files_and_a_refused_one(open_page, ct_file, tmp_path):
    """Good files open, the strip lets one choose, a bad one is named in words."""
    bad = tmp_path / "letter.pdf"
    bad.write_bytes(b"%PDF-1.7 nothing to see")
    page = open_page()
    upload(page, ct_file, str(bad), get_testdata_file("MR_small.dcm", download=False))
    expect(page.locator("#viewer .strip-image")).to_have_count(2)
    expect(page.locator("#viewer .corner.start")).to_contain_text("MR")
    expect(page.locator(".notice")).to_contain_text("PDF")
    open_page.seen.clear()  # the browser reports the refusal
    page.locator("#viewer .strip-image").first.click()
    expect(page.locator("#viewer .corner.start")).to_contain_text("CT")


def test_dropped_and_pasted_pictures_open(open_page):
    """A picture dropped on the page or pasted from the clipboard is opened like a file."""
    buffer = io.BytesIO()
    Pillow.fromarray(np.arange(48 * 32 * 3, dtype=np.uint8).reshape(32, 48, 3)).save(buffer, "PNG")
    script = """async ([kind, text]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'picture.png', { type: 'image/png' }));
      const event = kind === 'drop' ? new DragEvent('drop', { dataTransfer: data, bubbles: true })
        : new ClipboardEvent('paste', { clipboardData: data, bubbles: true });
      document.querySelector('#chat').dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        page = open_page()
        page.evaluate(script, [kind, base64.b64encode(buffer.getvalue()).decode()])
        expect(page.locator("#viewer .corner.start")).to_contain_text("48×32")
        assert current_view(page)["window"] is None
    expect(page.locator("#chat .subject")).to_have_text("Picture · \u206648×32 px\u2069")
    ask(page, "What is this?")
    expect(page.locator("#chat .evidence-label")).to_have_text("Picture · \u206648×32 px\u2069")
