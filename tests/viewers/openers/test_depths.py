"""Slides of 12 bits in words of 16 are as bright as their pixels, and it is told where that was assumed."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
from pydicom import dcmread
from pydicom.encaps import encapsulate

from tests.viewers.openers import made
from viewers.openers import open_slide
from viewers.openers.tiled import as_rgb


def keys(slide):
    return [found.key.removeprefix("finding.") for found in slide.findings]


def whole(slide, level=0):
    return slide.read_region((0, 0), level, slide.levels[level].size)


def write(path, pixels, *, ome=None, **options):
    """Write two levels of tiles; OME's smaller ones stand in SubIFDs."""
    with tifffile.TiffWriter(path, ome=ome is not None) as writer:
        common = {"tile": (256, 256), **options}
        writer.write(pixels, subifds=int(ome is not None), metadata=ome, **common)
        writer.write(pixels[::2, ::2], subfiletype=1, metadata=None, **common)
    return path


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_significant_bits_of_ome(bits, tmp_path):
    """What OME says of the bits is believed, however dark the picture is."""
    grey = made.tissue()[..., 1]
    wide = (grey // 4).astype(np.uint16) << (bits - 8)
    said = {"axes": "YX", "SignificantBits": bits}
    path = write(tmp_path / "a.ome.tif", wide, ome=said, photometric="minisblack")
    with open_slide(path) as slide:
        assert len(slide.levels) == 2
        assert np.array_equal(whole(slide)[..., 0], grey // 4)
        assert "depth_assumed" not in keys(slide)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack", "miniswhite"])
def test_bits_nobody_states(bits, photometric, tmp_path):
    """Else the brightest pixel decides, at every level alike, and the reader is told."""
    rgb = made.tissue()
    pixels = rgb if photometric == "rgb" else rgb[..., 1]
    wide = pixels.astype(np.uint16) << (bits - 8)
    path = write(tmp_path / "a.tif", wide, photometric=photometric, compression="zlib")
    with open_slide(path) as slide:
        for level, step in enumerate((1, 2)):
            shown = whole(slide, level)
            expected = 255 - pixels if photometric == "miniswhite" else pixels
            assert np.array_equal(shown if photometric == "rgb" else shown[..., 0], expected[::step, ::step])
        assert ("depth_assumed" in keys(slide)) == (bits < 16)
        found = [item.values for item in slide.findings if item.key == "finding.depth_assumed"]
        assert found == [{"bits": 12}] * (bits < 16)


def test_a_black_slide(tmp_path):
    """Of pixels that are all 0 nothing can be learned."""
    with open_slide(
        write(tmp_path / "a.tif", np.zeros((300, 300), np.uint16), photometric="minisblack")
    ) as slide:
        assert whole(slide).max() == 0
        assert "depth_assumed" not in keys(slide)


@pytest.mark.parametrize("syntax", [made.EXPLICIT, made.JPEG_2000])
def test_stored_bits_of_dicom(syntax, tmp_path):
    """A DICOM slide states its bits."""
    made.write_wsm(tmp_path / "w", made.EXPLICIT)
    rgb = made.tissue()
    for number, factor in enumerate((1, 2, 4)):
        path = tmp_path / "w" / f"{number}.dcm"
        dataset = dcmread(path)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        tiles = [tile.astype(np.uint16) << 4 for tile in made.tiles_of(made.reduced(rgb, factor))]
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == made.EXPLICIT:
            dataset.PixelData = b"".join(tile.tobytes() for tile in tiles)
        else:
            dataset.PixelData = encapsulate(
                [
                    imagecodecs.jpeg2k_encode(
                        tile, codecformat="j2k", reversible=True, level=0, mct=False, bitspersample=12
                    )
                    for tile in tiles
                ]
            )
        dataset["PixelData"].VR = "OW"
        dataset.save_as(path, enforce_file_format=True)
    with open_slide(tmp_path / "w") as slide:
        assert np.array_equal(whole(slide), rgb)
        assert "depth_assumed" not in keys(slide)


def test_values_beyond_the_stated_bits():
    """They are as bright as can be, and do not begin anew from black."""
    assert as_rgb(np.array([[4095, 4096, 65535, 2048]], np.uint16), 12)[0, :, 0].tolist() == [255] * 3 + [128]


@pytest.mark.parametrize(("kind", "alpha"), [("assocalpha", 128), ("unassalpha", 128), ("assocalpha", 0)])
def test_alpha_by_its_kind(kind, alpha, tmp_path):
    """Colours multiplied by their alpha already are not multiplied again when they are laid over white."""
    rgb = made.tissue().astype(float)
    stored = rgb * alpha / 255 if kind == "assocalpha" else rgb
    pixels = np.dstack([np.rint(stored), np.full(rgb.shape[:2], alpha)]).astype(np.uint8)
    path = write(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind])
    with open_slide(path) as slide:
        expected = rgb * alpha / 255 + 255 - alpha
        assert np.abs(whole(slide) - expected).max() <= 1
