"""Pictures of more than 8 bits a channel are refused however they come, and no others are."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from fixpoint.adapters.pictures.bit_depth import more_than_8_bits
from fixpoint.adapters.pictures.pictures import as_pictures

SIDE = 8


def png(channels, depth=16):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    row = (
        b"\0" + np.full((SIDE, channels), 0xFFFF if channels in (2, 4) else 0x80FF, ">u2").tobytes()
    )
    if depth == 8:
        row = b"\0" + bytes([255] * SIDE * channels)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * SIDE)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def ppm(largest):
    values = np.full((SIDE, SIDE, 3), largest, ">u2" if largest > 255 else "u1")
    return b"P6 %d %d %d\n" % (SIDE, SIDE, largest) + values.tobytes()


def tiff():
    """RGB of 16 bits, one strip, little-endian."""
    pixels = np.full((SIDE, SIDE, 3), 0x80FF, "<u2").tobytes()
    entries = [
        (256, 3, 1, SIDE),
        (257, 3, 1, SIDE),
        (258, 3, 3, 8 + 2 + 9 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6),
        (277, 3, 1, 3),
        (278, 3, 1, SIDE),
        (279, 4, 1, len(pixels)),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<3H", 16, 16, 16) + pixels


def bmp_565():
    """16 bits a pixel: 5, 6 and 5 a channel."""
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 16, 3, SIDE * SIDE * 2, 0, 0, 0, 0)
    masks, pixels = struct.pack("<III", 0xF800, 0x7E0, 0x1F), bytes(SIDE * SIDE * 2)
    start = 14 + len(header) + len(masks)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + masks + pixels


def jpeg_2000(bits):
    """Written at 8 bits; a header that says more is all that is read here."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "JPEG2000", no_jp2=True)
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\x4f\xff\x51")
    for component in range(3):
        data[at + 42 + 3 * component] = bits - 1
    return bytes(data)


def avif(deep):
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "AVIF")
    data = bytearray(file.getvalue())
    if deep:
        data[data.index(b"av1C") + 6] |= 0x40
        at = data.index(b"pixi") + 9
        data[at : at + 3] = b"\x0a\x0a\x0a"
    return bytes(data)


DEEP = {
    "grey.png": lambda: png(1),
    "rgb.png": lambda: png(3),
    "rgba.png": lambda: png(4),
    "grey with alpha.png": lambda: png(2),
    "rgb.ppm": lambda: ppm(65535),
    "ten bits.ppm": lambda: ppm(1023),
    "rgb.tif": tiff,
}
PLAIN = {
    "rgb.png": lambda: png(3, 8),
    "rgb.ppm": lambda: ppm(255),
    "four bits.ppm": lambda: ppm(15),
    "565.bmp": bmp_565,
}


def ways(path):
    """The path, the opened file, the loaded one, and the file in memory."""
    loaded = Image.open(path)
    loaded.load()
    return {
        "path": path,
        "opened": Image.open(path),
        "loaded": loaded,
        "in memory": Image.open(io.BytesIO(path.read_bytes())),
        "in a list": [Image.open(path)],
    }


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_a_channel_are_refused_however_the_file_is_given(name, tmp_path):
    (tmp_path / name).write_bytes(DEEP[name]())
    for way, image in ways(tmp_path / name).items():
        with pytest.raises(ValueError, match=r"more than 8 bits|only 8-bit") as caught:
            as_pictures(image)
        assert way == "in memory" or name in str(caught.value)


@pytest.mark.parametrize("name", PLAIN)
def test_8_bits_a_channel_and_fewer_are_taken_however_the_file_is_given(name, tmp_path):
    (tmp_path / name).write_bytes(PLAIN[name]())
    values = [as_pictures(image).values for image in ways(tmp_path / name).values()]
    assert all(bool((each == values[0]).all()) for each in values)


@pytest.mark.parametrize(
    ("feature", "make"), [("jpg_2000", lambda d: jpeg_2000(16 if d else 8)), ("avif", avif)]
)
def test_formats_that_hide_their_depth_tell_it_in_the_header(feature, make, tmp_path):
    if not features.check(feature):
        pytest.skip(f"Pillow without {feature}")
    for deep in (False, True):
        path = tmp_path / f"{deep}.bin"
        path.write_bytes(make(deep))
        assert more_than_8_bits(Image.open(path)) is deep


def test_what_was_made_in_memory_is_taken(tmp_path):
    (tmp_path / "deep.png").write_bytes(png(3))
    made = Image.open(tmp_path / "deep.png").convert("RGB").crop((0, 0, 4, 4))
    assert as_pictures(made).values.shape == (1, 3, 4, 4)
    levels = np.zeros((4, 4, 3), np.uint8)
    assert as_pictures(Image.fromarray(levels)).values.shape == (1, 3, 4, 4)
