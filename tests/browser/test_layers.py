"""Drawings over pictures and presentation states in the page, on an installation that keeps them."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from playwright.sync_api import expect
from pydicom.sequence import Sequence

from tests.browser.conftest import start_server
from tests.browser.made import SIZE, series
from tests.viewers.states import add_overlay, annotation, item, layer, polyline, state

VIEWER = "import('/page/js/viewer.js').then((m) => m.viewer{0})"
CANVAS = """async () => {
  const { painter } = (await import('/page/js/viewer.js')).viewer.study.layout.active;
  const { left, top } = painter.placement;
  const { rows, columns } = painter.source;
  let text = '';
  for (const level of painter.context.getImageData(left, top, columns, rows).data) {
    text += String.fromCharCode(level);
  }
  return btoa(text);
}"""


@pytest.fixture(scope="module")
def keeping(tmp_path_factory):
    """Serve with drawings kept."""
    started = start_server(tmp_path_factory.mktemp("keeping"), KEEP_GRAPHICS="true")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One series of four slices, an overlay on each, and a state with a shutter and a line for the first."""
    root = tmp_path_factory.mktemp("study")
    series(root / "CT", number=1, count=4)
    marked = np.zeros((SIZE, SIZE), bool)
    marked[10:14, 5:30] = True
    slices = []
    for path in (root / "CT").iterdir():
        slices.append(add_overlay(pydicom.dcmread(path), marked))
        slices[-1].save_as(path)
    first = min(slices, key=lambda one: one.ImagePositionPatient[2])
    edges = {"LeftVertical": 4, "RightVertical": 40, "UpperHorizontal": 3, "LowerHorizontal": 44}
    made = state(
        first,
        RescaleSlope=1,
        RescaleIntercept=0,
        RescaleType="HU",
        SoftcopyVOILUTSequence=Sequence([item(WindowCenter=-400, WindowWidth=500)]),
        ShutterShape="RECTANGULAR",
        GraphicLayerSequence=layer(),
        GraphicAnnotationSequence=Sequence([annotation(polyline([(20, 20), (20, 40)]))]),
        **{f"Shutter{side}Edge": value for side, value in edges.items()},
    )
    made.save_as(root / "state", enforce_file_format=True)
    return root


def shown(page):
    """Return the view on the canvas, which is the server's picture of it at 1:1, and its grey levels."""
    page.locator("#viewer [data-do=actual]").click()
    page.wait_for_timeout(200)
    view = page.evaluate(VIEWER.format(".view()"))
    pixels = np.frombuffer(base64.b64decode(page.evaluate(CANVAS)), np.uint8).reshape(SIZE, SIZE, 4)
    answer = page.request.get(f"{page.url}shown/render", params={"view": json.dumps(view)})
    expected = np.asarray(Pillow.open(io.BytesIO(answer.body())).convert("RGB"))
    assert np.array_equal(pixels[:, :, :3], expected)
    return view, expected[:, :, 0]


def test_drawings_and_states(open_page, keeping, folder):
    """The canvas is the server's picture, with drawings off and on, and as a state says; the view says so."""
    page = open_page(url=keeping.url)
    page.set_input_files("#viewer .folder", str(folder))
    expect(page.locator("#viewer .strip-image")).to_have_count(1)
    expect(page.locator("#viewer .progress")).to_be_hidden()
    expect(page.locator("#viewer .corner.end").first).to_contain_text("1/4")
    view, plain = shown(page)
    assert (view["graphics"], view["presentation"]) == (False, None)
    page.evaluate(VIEWER.format(".study.actions.graphics()"))
    view, drawn = shown(page)
    assert view["graphics"]
    assert (drawn[10:14, 5:30] == 255).all()
    assert np.array_equal(drawn[20:], plain[20:])

    page.locator("#viewer .presets").select_option("state-1")
    page.wait_for_function(f"({VIEWER.format('.view().presentation')}).then((one) => one === 1)")
    view, stated = shown(page)
    assert view["window"]["center"] == -400
    assert not stated[:2].any()
    assert (stated[20:41, 20] == 255).all()
    assert not (stated[10:14, 5:30] == 255).all()  # the state does not show the overlay

    page.locator("#viewer .pane canvas").first.press("ArrowDown")
    page.wait_for_function(f"({VIEWER.format('.view().frame')}).then((one) => one === 1)")
    view, _ = shown(page)
    assert (view["presentation"], view["graphics"]) == (None, True)


def test_nothing_to_draw_no_button(open_page, keeping, tmp_path):
    """Pictures without drawings have no button for them."""
    series(tmp_path / "CT", number=1, count=3)
    page = open_page(url=keeping.url)
    page.set_input_files("#viewer .folder", str(tmp_path))
    expect(page.locator("#viewer .strip-image")).to_have_count(1)
    expect(page.locator("#viewer [data-do=graphics]")).to_be_hidden()
