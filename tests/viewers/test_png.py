"""PNG written fast is read back the same by a library that is not ours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from PIL import Image as Pillow

from viewers.png import png

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.just(3)
)


def read_back(data):
    with Pillow.open(io.BytesIO(data)) as picture:
        picture.verify()
    with Pillow.open(io.BytesIO(data)) as picture:
        assert picture.info == {}
        return picture.mode, np.asarray(picture)


@settings(max_examples=60, deadline=None)
@given(hypothesis_numpy.arrays(np.uint8, SHAPES))
def test_what_is_written_is_read_back(pixels):
    """Grey and RGB of any size, checked sums and all, without metadata."""
    mode, found = read_back(png(pixels))
    assert mode == ("L" if pixels.ndim == 2 else "RGB")
    assert np.array_equal(found, pixels)


def test_views_of_larger_arrays_are_written_as_they_look():
    """Flipped, cut and transposed arrays need no copy of the caller."""
    whole = np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3)
    for view in (whole[::-1, 3:9], whole.transpose(1, 0, 2), whole[:, :, 1]):
        assert np.array_equal(read_back(png(view))[1], view)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2), np.uint16), np.zeros((0, 4), np.uint8), np.zeros((2, 2, 4), np.uint8)]
)
def test_other_arrays_are_refused(wrong):
    """16 bits, empty pictures and four channels are mistakes of the caller."""
    with pytest.raises(ValueError, match="uint8"):
        png(wrong)


@pytest.mark.parametrize("shape", [(700, 300), (1, 200_000), (300, 500, 3)])
def test_large_pictures_in_two_parts(shape):
    """What two threads compress is one stream, which decoders other than ours read; always the same bytes."""
    picture = np.random.default_rng(2).integers(0, 40, shape, np.uint8)
    made = png(picture)
    assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(made))), picture)
    assert png(picture) == made
