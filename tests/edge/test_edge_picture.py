"""Pictures of every kind end in pixels that are defined, or in a coded error."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgegraft_edge.errors import DataError
from edgegraft_edge.picture import (
    MAX_PIXELS,
    coloured,
    fitted,
    is_grey,
    read_picture,
    read_window,
    resized,
    resizing,
)
from edgegraft_edge.signal import GREY, ImageSpec

COLOURS = np.array([[[200, 100, 50], [0, 255, 10]], [[9, 8, 7], [255, 255, 255]]], np.uint8)


def _bytes(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _colours() -> Image.Image:
    return Image.fromarray(COLOURS)


@pytest.mark.parametrize("format", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_give_their_pixels(format):
    found = read_picture(_bytes(_colours(), format))
    assert np.array_equal(found, COLOURS.transpose(2, 0, 1))


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(format):
    smooth = np.full((16, 16, 3), (120, 60, 30), np.uint8)
    found = read_picture(_bytes(Image.fromarray(smooth), format, quality=95))
    assert found.shape == (3, 16, 16)
    assert np.abs(found.astype(int) - smooth.transpose(2, 0, 1)).max() < 8


def test_a_suffix_that_lies_does_not_matter(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(_bytes(_colours(), "PNG"))
    assert read_picture(path).shape == (3, 2, 2)


@pytest.mark.parametrize(("turn", "corner"), [(1, (0, 0)), (3, (1, 2)), (6, (0, 1)), (8, (2, 0))])
def test_pictures_stand_upright_by_their_exif(turn, corner):
    grey = np.zeros((2, 3), np.uint8)
    grey[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    found = read_picture(_bytes(Image.fromarray(grey), "PNG", exif=exif))[0]
    assert found.shape == ((2, 3) if turn in (1, 3) else (3, 2))
    assert tuple(np.argwhere(found == 255)[0]) == corner


def test_palettes_become_colours():
    image = _colours().quantize(4)
    assert image.mode == "P"
    found = read_picture(_bytes(image, "PNG"))
    assert np.array_equal(found, np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_transparency_lies_over_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 128, 255)
    found = read_picture(_bytes(Image.fromarray(rgba), "PNG"))
    assert found[:, 0].tolist() == [[255, 127, 0]] * 3
    grey = Image.fromarray(rgba[:, :, 2:], "LA")
    assert read_picture(_bytes(grey, "PNG")).tolist() == [[[255, 127, 0]]]
    see_through = Image.fromarray(np.array([[0, 1]], np.uint8))
    assert read_picture(_bytes(see_through, "PNG", transparency=0)).tolist() == [[[255, 1]]]


def test_sixteen_bits_become_eight():
    wide = np.array([[0, 257, 65535, 32896]], np.uint16)
    assert read_picture(_bytes(Image.fromarray(wide), "PNG")).tolist() == [[[0, 1, 255, 128]]]


def test_cmyk_and_bilevel_are_read():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = read_picture(_bytes(cmyk, "JPEG", quality=95))[:, 4, 4]
    assert red[0] > 200
    assert max(red[1:]) < 60
    bits = Image.fromarray(np.array([[True, False]]))
    assert read_picture(_bytes(bits, "PNG")).tolist() == [[[255, 0]]]


def test_of_an_animation_the_first_picture_counts():
    first, second = Image.new("L", (3, 3), 10), Image.new("L", (3, 3), 200)
    for format in ("GIF", "PNG", "WEBP"):
        data = _bytes(first, format, save_all=True, append_images=[second], lossless=True)
        found = read_picture(data)
        assert found.shape[1:] == (3, 3)
        assert np.abs(found.astype(int) - 10).max() <= 1, format


def test_one_pixel_is_a_picture():
    assert read_picture(_bytes(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).shape == (3, 1, 1)
    spec = ImageSpec(8, 8)
    one = read_window(_bytes(Image.new("L", (1, 1), 77), "PNG"), spec)
    assert one.shape == (3, 8, 8)
    assert (one == 77).all()


def _refused(source) -> str:
    with pytest.raises(DataError) as caught:
        read_picture(source)
    return caught.value.code


def _noise_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return _bytes(Image.fromarray(noise), "JPEG")


def test_damaged_files_are_refused_by_code(tmp_path):
    jpeg = _noise_jpeg()
    assert _refused(b"") == "picture-empty"
    assert _refused(jpeg[: len(jpeg) // 2]) == "picture-truncated"
    assert _refused(b"not a picture") == "picture-unreadable"
    assert _refused(jpeg[:3]) == "picture-unreadable"
    assert _refused(b"%!PS-Adobe-3.0 EPSF-3.0\n") == "picture-unreadable"
    assert _refused(tmp_path / "absent.png") == "file-unreadable"
    assert _refused(tmp_path) == "file-unreadable"
    real = Image.fromarray(np.ones((2, 2), np.float32))
    assert _refused(_bytes(real, "TIFF")) == "picture-unreadable"


def test_a_bomb_is_refused_before_it_goes_off():
    side = int(MAX_PIXELS**0.5) + 1

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    for size in (side, 60_000):
        head = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"")
        assert _refused(data) == "picture-large"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=6))
def test_whatever_is_broken_ends_in_a_coded_error_or_in_pixels(place, junk):
    whole = _noise_jpeg()
    damaged = whole[:place] + junk + whole[place + len(junk) :]
    try:
        found = read_picture(damaged)
    except DataError as error:
        found, codes = np.zeros((1, 1, 1), np.uint8), [problem.code for problem in error.problems]
    else:
        codes = []
    assert all(code.startswith("picture-") for code in codes)
    assert found.dtype == np.uint8
    assert found.ndim == 3


def test_resizing_is_that_of_pillow():
    picture = np.random.default_rng(1).integers(0, 256, (40, 61)).astype(np.uint8)
    ours = resized(picture[None], 17, 90)[0]
    theirs = np.asarray(Image.fromarray(picture).resize((90, 17), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_resizing_by_parts_is_the_two_products():
    picture = np.random.default_rng(1).integers(0, 256, (3, 211, 97)).astype(np.uint8)
    whole = resizing(211, 50).T @ (picture.astype(np.float32) @ resizing(97, 33))
    apart = np.abs(resized(picture, 50, 33) - whole)
    assert apart.max() <= 0.501


def test_fits():
    tall = np.zeros((1, 30, 10), np.uint8)
    tall[:, 10:20] = 90
    assert (fitted(tall, 5, 5, "crop") == 90).all()
    stretched = fitted(tall, 6, 6, "stretch")[0]
    assert stretched[0, 0] == 0
    assert stretched[3, 0] > 60
    padded = fitted(np.full((1, 30, 10), 50, np.uint8), 6, 6, "pad")[0]
    assert (padded == 50).sum() == 12
    assert (padded[:, 2:4] == 50).all()
    assert fitted(np.ones((1, 1, 5000), np.uint8), 3, 3, "pad").sum() == 3


def test_colours_go_to_grey_and_back():
    grey = np.array([[[7, 250]]], np.uint8)
    assert is_grey(grey)
    assert is_grey(coloured(grey, 3))
    assert np.array_equal(coloured(coloured(grey, 3), 1), grey)
    assert not is_grey(COLOURS.transpose(2, 0, 1))
    data = _bytes(_colours(), "PNG")
    assert read_window(data, ImageSpec(4, 4, GREY)).shape == (1, 4, 4)
