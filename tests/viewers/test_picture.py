"""Pictures: grey stays grey, orientation is applied, metadata stays behind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow

from viewers.errors import OpenError, TooLargeError, UnsupportedImageError
from viewers.image import ColorFrame, GreyFrame
from viewers.intake import open_image
from viewers.limits import Limits
from viewers.store import load, save
from viewers.view import default_view, render

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
RGB = np.random.default_rng(4).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.fixture
def keep(tmp_path):
    """Return a function that saves a Pillow picture and opens it with ours."""

    def save_and_open(picture, kind, limits=None, **options):
        path = tmp_path / "picture.dcm"
        picture.save(path, kind, **options)
        return open_image(path, limits)

    return save_and_open


def keys(image):
    return [found.key.removeprefix("finding.") for found in image.findings]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_of_8_bits(keep, kind):
    """Grey levels come out as they are in the file."""
    image = keep(Pillow.fromarray(GREY), kind)
    assert (image.kind, image.modality, image.is_color, image.spacing) == ("picture", "", False, None)
    assert isinstance(image.frame(0), GreyFrame)
    assert image.default_window(0).key == "stored"
    assert np.array_equal(render(image, default_view(image))[:, :, 0], GREY)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits(keep, kind):
    """16 bits stay codes, to be windowed."""
    wide = GREY.astype(np.uint16) * 257
    image = keep(Pillow.fromarray(wide), kind)
    assert np.array_equal(image.frame(0).codes, wide)
    assert [window.key for window in image.windows(0)] == ["stored", "full_range", "auto"]
    assert image.default_window(0).key == "auto"


def test_big_endian_tiff_of_16_bits(tmp_path):
    """Byte order of a TIFF does not change its values."""
    wide = GREY.astype(">u2") * 257
    path = tmp_path / "mm.tif"
    Pillow.frombytes("I;16B", (8, 6), wide.tobytes()).save(path, "TIFF")
    assert path.read_bytes()[:2] == b"MM"
    assert np.array_equal(open_image(path).frame(0).codes, wide)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_colors(keep, kind):
    """RGB comes out as it is in the file."""
    image = keep(Pillow.fromarray(RGB), kind)
    assert isinstance(image.frame(0), ColorFrame)
    assert np.array_equal(render(image, default_view(image)), RGB)


def test_jpeg(keep):
    """A JPEG is decoded, and reported as lossy."""
    smooth = np.stack([np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(64, 0)] * 3, axis=-1)
    image = keep(Pillow.fromarray(smooth), "JPEG", quality=95)
    assert np.abs(image.frame(0).rgb.astype(int) - smooth).max() <= 4
    assert keys(image) == ["lossy"]


def test_transparency_is_over_black(keep):
    """Half transparent red is half red; what is fully transparent is black whatever colour it hides."""
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, :] = 255, 0, 0, 128
    rgba[1, :] = 9, 99, 199, 0
    image = keep(Pillow.fromarray(rgba), "PNG")
    assert image.frame(0).rgb[:, 0].tolist() == [[128, 0, 0], [0, 0, 0]]
    assert keys(image) == ["transparency"]


def test_palette_and_cmyk(keep):
    """Palette colours are looked up; CMYK becomes RGB."""
    flat = np.zeros((4, 4, 3), np.uint8)
    flat[:2] = 10, 200, 30
    assert np.array_equal(keep(Pillow.fromarray(flat).quantize(2), "PNG").frame(0).rgb, flat)
    black = keep(Pillow.new("CMYK", (3, 3), (0, 0, 0, 255)), "TIFF")
    assert not black.frame(0).rgb.any()


def test_single_bits(keep):
    """Black and white pictures are grey."""
    bits = Pillow.fromarray(GREY > 100)
    assert np.array_equal(keep(bits, "PNG").frame(0).codes, (GREY > 100) * 255)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: np.swapaxes(a, 0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(np.swapaxes(a, 0, 1), 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(keep, orientation, turn):
    """All eight orientations of EXIF come out upright."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    image = keep(Pillow.fromarray(RGB), "PNG", exif=exif)
    expected = turn(RGB)
    assert (image.size.height, image.size.width) == expected.shape[:2]
    assert np.array_equal(image.frame(0).rgb, expected)


def test_metadata_stays_behind(tmp_path):
    """Names, places and comments of a photograph are in no byte of what is kept."""
    exif = Pillow.Exif()
    exif[0x010E], exif[0x013B] = "ZZMARKER", "ZZMARKER"
    exif.get_ifd(0x8825)[1] = "ZZMARKER"
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(RGB).save(path, "JPEG", exif=exif, comment=b"ZZMARKER")
    assert path.read_bytes().count(b"ZZMARKER") >= 3
    image = open_image(path)
    save(image, tmp_path / "kept")
    for name in ("image.json", "frames.npy"):
        assert b"ZZMARKER" not in (tmp_path / "kept" / name).read_bytes()
    assert np.array_equal(load(tmp_path / "kept").frame(0).rgb, image.frame(0).rgb)


def test_pages_are_frames(tmp_path):
    """Pages of the first one's size and kind are frames; others are left out and counted."""
    path = tmp_path / "pages.tif"
    pages = [
        Pillow.fromarray(GREY),
        Pillow.fromarray(255 - GREY),
        Pillow.fromarray(GREY[:3]),
        Pillow.fromarray(RGB),
    ]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])
    image = open_image(path)
    assert image.frame_count == 2
    assert np.array_equal(image.frame(1).codes, 255 - GREY)
    assert np.array_equal(image.frame(0).codes, GREY)
    assert [dict(found.values) for found in image.findings] == [{"count": 2}]


def test_limits(keep):
    """Too many pixels, pages or bytes are refused with the quantity."""
    picture = Pillow.fromarray(GREY)
    with pytest.raises(TooLargeError, match="pixels per frame"):
        keep(picture, "PNG", Limits(pixels_per_frame=47))
    with pytest.raises(TooLargeError, match="frames"):
        keep(picture, "TIFF", Limits(frames=1), save_all=True, append_images=[picture])
    with pytest.raises(TooLargeError, match="decoded bytes"):
        keep(picture, "TIFF", Limits(decoded_bytes=150), save_all=True, append_images=[picture])


def test_unsupported_pictures_are_refused(keep, tmp_path):
    """Floating point and 32-bit TIFFs have no stated grey scale and are refused."""
    with pytest.raises(OpenError):
        keep(Pillow.fromarray(GREY.astype(np.float32)), "TIFF")
    with pytest.raises(OpenError):
        keep(Pillow.fromarray(GREY.astype(np.int32) * 1_000_000), "TIFF")
    for start, name in (
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ):
        path = tmp_path / "phone.jpg"
        path.write_bytes(start + bytes(300))
        with pytest.raises(UnsupportedImageError, match=name) as refused:
            open_image(path)
        assert "Export" in str(refused.value)
        assert "JPEG" in str(refused.value)


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("GIF", {})])
def test_pictures_of_the_web(keep, kind, options):
    """WebP and GIF, as screenshots and pasted pictures come; of an animation the first picture is shown."""
    flat = np.repeat(np.repeat(RGB[:2, :2], 4, 0), 4, 1)
    image = keep(Pillow.fromarray(flat), kind, **options)
    drawn = render(image, default_view(image)).astype(int)
    assert np.abs(drawn - flat).max() <= 1
    assert image.frame_count == 1
    moving = keep(
        Pillow.fromarray(flat), kind, save_all=True, append_images=[Pillow.fromarray(255 - flat)], **options
    )
    assert np.abs(render(moving, default_view(moving)).astype(int) - flat).max() <= 1
    assert [dict(found.values) for found in moving.findings if "animation" in found.key] == [{"count": 1}]


def test_several_pictures_of_a_camera_in_one_file(tmp_path):
    """Of a file in the Multi-Picture Format the first is shown, and a finding says that there are more."""
    path = tmp_path / "camera.mpo"
    first = Pillow.fromarray(np.full((16, 24, 3), 200, np.uint8))
    first.save(path, "MPO", save_all=True, append_images=[Pillow.fromarray(np.zeros((16, 24, 3), np.uint8))])
    image = open_image(path)
    assert render(image, default_view(image)).min() > 190
    assert {"animation_left_out", "lossy"} <= set(keys(image))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colours_of_16_bits(kind, tmp_path):
    """The upper 8 bits of each colour are shown."""
    import imagecodecs
    import tifffile

    wide = RGB.astype(np.uint16) * 257
    path = tmp_path / "wide"
    if kind == "PNG":
        path.write_bytes(imagecodecs.png_encode(wide))
    else:
        tifffile.imwrite(path, wide, photometric="rgb")
    image = open_image(path)
    assert np.array_equal(render(image, default_view(image)), RGB)


def test_grey_of_16_bits_from_white(tmp_path):
    """A TIFF whose 0 is white is shown the right way round, in 16 bits as in 8."""
    import tifffile

    for wide in (GREY, GREY.astype(np.uint16) * 257):
        path = tmp_path / f"{wide.dtype}.tif"
        tifffile.imwrite(path, wide, photometric="miniswhite")
        assert np.array_equal(open_image(path).frame(0).codes, np.iinfo(wide.dtype).max - wide)


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("orientation", [1, 6])
def test_colours_of_16_bits_in_planes(bands, orientation, tmp_path):
    """Planes of a TIFF stored apart are joined whole, every page of them, and turned upright."""
    import tifffile

    planes = np.full((bands, 6, 8), 65535, np.uint16)
    planes[:3] = np.moveaxis(RGB, 2, 0).astype(np.uint16) * 257
    path = tmp_path / "planes.tif"
    extra = {"extrasamples": ["unassalpha"]} if bands == 4 else {}
    turned = [(274, 3, 1, orientation, True)]
    with tifffile.TiffWriter(path) as writer:
        for page in (planes, planes[:, ::-1]):
            writer.write(
                page,
                photometric="rgb",
                planarconfig="separate",
                metadata=None,
                extratags=turned,
                compression="zlib",
                **extra,
            )
    image = open_image(path)
    assert image.frame_count == 2
    for index, expected in enumerate((RGB, RGB[::-1])):
        upright = np.rot90(expected, -1) if orientation == 6 else expected
        assert np.array_equal(image.frame(index).rgb, upright)


def test_no_place_of_a_photograph_is_kept(tmp_path):
    """GPS, comments, thumbnails and names of a WebP, PNG or JPEG are in nothing that is stored."""
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0112] = "SECRETMAKER", 6
    exif.get_ifd(0x8825).update({1: "N", 2: (24.0, 28.0, 1.0), 29: "2024:01:02"})
    for kind in ("JPEG", "WEBP", "PNG"):
        path = tmp_path / f"photo.{kind}"
        Pillow.fromarray(RGB).save(path, kind, exif=exif)
        assert b"SECRETMAKER" in path.read_bytes()
        image = open_image(path)
        assert (image.size.width, image.size.height) == (6, 8)
        home = tmp_path / kind
        save(image, home)
        for stored in (file for file in home.rglob("*") if file.is_file()):
            raw = stored.read_bytes()
            assert b"SECRETMAKER" not in raw
            assert b"2024:01:02" not in raw


def test_a_tiff_with_a_loop_of_pages_ends(tmp_path):
    """A page list that points back at itself does not run for ever."""
    path = tmp_path / "loop.tif"
    Pillow.fromarray(GREY).save(path, "TIFF")
    raw = bytearray(path.read_bytes())
    directory = int.from_bytes(raw[4:8], "little")
    entries = int.from_bytes(raw[directory : directory + 2], "little")
    following = directory + 2 + 12 * entries
    raw[following : following + 4] = directory.to_bytes(4, "little")
    path.write_bytes(bytes(raw))
    assert raw[:2] == b"II"
    try:
        image = open_image(path)
    except OpenError:
        return
    assert image.frame_count == 1
