"""What is on screen is read and drawn the same way, whatever its kind."""

import numpy as np
import pytest

from viewers.errors import InvalidViewError
from viewers.intake import open_image
from viewers.shown import draw, shown_from_json
from viewers.view import default_view, render


def test_a_view_comes_back_and_draws_itself(ct, write):
    """JSON of a view gives an equal view, which draws what ``render`` draws and names its image."""
    image = open_image(write(ct))
    view = default_view(image)
    shown = shown_from_json(view.to_json())
    assert shown == view
    assert shown.digests == (image.digest,)
    opened = []
    drawn = draw(shown, lambda digest: opened.append(digest) or image)
    assert opened == [image.digest]
    assert np.array_equal(drawn, render(image, view))


@pytest.mark.parametrize("value", [None, [], "x", {}, {"nothing": 1}, {"image": 3}])
def test_what_is_no_view_is_refused(value):
    """Values of no known kind, or of one with wrong entries, are named errors."""
    with pytest.raises(InvalidViewError):
        shown_from_json(value)
