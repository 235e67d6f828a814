"""How a picture is read, whatever its depth, colours and transparency."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets.image_files import pixels, read_picture

GRADIENT = np.arange(256).reshape(16, 16)  # of 8 bits, all of them


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def read(content: bytes, mode: str = "RGB") -> np.ndarray:
    return np.asarray(read_picture("folder/x.png", mode, content)).astype(int)


def drawn(mode: str, ground: object, ink: object) -> Image.Image:
    """A dot of ink in the middle of a ground."""
    picture = Image.new(mode, (9, 9), ground)
    picture.putpixel((4, 4), ink)
    return picture


@pytest.mark.parametrize(
    ("pixels", "format"),
    [
        (GRADIENT.astype(np.uint8), "PNG"),
        (257 * GRADIENT.astype("<u2"), "PNG"),
        (257 * GRADIENT.astype("<u2"), "TIFF"),
        (257 * GRADIENT.astype(">u2"), "TIFF"),
        (257 * GRADIENT.astype("<u2"), "PPM"),
        ((GRADIENT / 255).astype(np.float32), "TIFF"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_brightness_is_scaled_by_depth(pixels, format, mode):
    grey = read(encoded(Image.fromarray(pixels), format), mode)
    channels = [grey] if mode == "L" else grey.transpose(2, 0, 1)
    for channel in channels:
        np.testing.assert_array_equal(channel, GRADIENT)


def test_brightness_of_12_bits_is_scaled():
    # Pillow writes no 12 bits: 16 x 16 pixels, packed by hand, after a header of TIFF.
    values = np.round(GRADIENT * (4095 / 255)).astype(int).ravel()
    first, second = values[0::2], values[1::2]
    packed = np.stack([first >> 4, ((first & 15) << 4) | (second >> 8), second & 255], axis=1)
    content = tiff(packed.astype(np.uint8).tobytes(), bits=12)
    np.testing.assert_array_equal(read(content, "L"), GRADIENT)


def test_white_may_be_zero():
    content = tiff((257 * GRADIENT).astype("<u2").tobytes(), bits=16, photometric=0)
    np.testing.assert_array_equal(read(content, "L"), 255 - GRADIENT)


@pytest.mark.parametrize("largest", [255, 65535])
def test_palettes_of_8_and_of_16_bits_look_the_same(largest):
    colours = np.random.default_rng(0).integers(256, size=(256, 3))
    colours[0] = 255
    stored = (colours.T * (largest // 255)).ravel().tolist()
    content = tiff(GRADIENT.astype(np.uint8).tobytes(), bits=8, photometric=3, more={320: stored})
    np.testing.assert_array_equal(read(content), colours[GRADIENT])


def test_channels_of_16_bits_in_separate_planes_are_refused():
    # Pillow would read them as 8 bits, without a word; of 8 bits, or compressed, it reads them.
    colours = np.random.default_rng(0).integers(256, size=(16, 16, 3))
    for bits, compressed in ((8, False), (16, True), (16, False)):
        stored = (colours * (1 if bits == 8 else 257)).astype(f"<u{bits // 8}").transpose(2, 0, 1)
        planes = [
            zlib.compress(plane.tobytes()) if compressed else plane.tobytes() for plane in stored
        ]
        places = (8 + np.cumsum([0, *map(len, planes)][:-1])).tolist()
        more = {258: [bits] * 3, 259: 8 if compressed else 1, 277: 3, 284: 2}
        more |= {273: places, 279: [len(plane) for plane in planes]}
        content = tiff(b"".join(planes), bits, photometric=2, more=more)
        if bits == 16 and not compressed:
            with pytest.raises(OSError, match="x.png cannot be read .* separate planes.* Save it"):
                read(content)
        else:
            np.testing.assert_array_equal(read(content), colours)


def tiff(
    data: bytes, bits: int, photometric: int = 1, more: dict[int, int | list[int]] | None = None
) -> bytes:
    """A TIFF file of 16 x 16 pixels, grey unless more tags say other."""
    tags = {256: 16, 257: 16, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 16}
    tags = {**tags, 279: len(data), **(more or {})}
    entries = b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        stored = np.array(values, "<u2").tobytes().ljust(4, b"\0")
        if len(stored) > 4:
            stored, data = np.array([8 + len(data)], "<u4").tobytes(), data + stored
        entries += np.array([tag, 3], "<u2").tobytes()
        entries += np.array([len(values)], "<u4").tobytes() + stored
    directory = np.array([len(tags)], "<u2").tobytes() + entries + bytes(4)
    return b"II*\0" + np.array([8 + len(data)], "<u4").tobytes() + data + directory


@pytest.mark.parametrize("pixels", [GRADIENT.astype(np.int32), GRADIENT.astype(np.float32)])
def test_brightness_without_a_known_white_is_refused(pixels):
    with pytest.raises(OSError, match="folder/x.png cannot be read as an image: its brightness"):
        read(encoded(Image.fromarray(pixels), "TIFF"))


def test_what_is_not_a_number_is_refused():
    pixels = np.full((4, 4), 0.5, dtype=np.float32)
    pixels[1, 2] = np.nan
    with pytest.raises(OSError, match=r"brightness is expected in \[0, 1\]"):
        read(encoded(Image.fromarray(pixels), "TIFF"))


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), {}),
        (drawn("LA", (0, 0), (0, 255)), {}),
        (drawn("L", 7, 0), {"transparency": 7}),
        (drawn("RGB", (7, 8, 9), (0, 0, 0)), {"transparency": (7, 8, 9)}),
        (drawn("1", 1, 0), {}),
        (drawn("1", 1, 0), {"transparency": 1}),
        (drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)).quantize(), {}),
        (drawn("RGB", (255, 255, 255), (0, 0, 0)).quantize(), {}),
        (Image.fromarray(np.asarray(drawn("L", 7, 0)).astype(np.uint16)), {"transparency": 7}),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_transparent_is_white(picture, options, mode):
    content = encoded(picture, "PNG", **options)
    expected = np.full((9, 9), 255)
    expected[4, 4] = 0
    np.testing.assert_array_equal(read(content).min(axis=2), expected)
    np.testing.assert_array_equal(read(content, "L"), expected)


def png(depth: int, colour_type: int, rows: list[bytes], transparent: bytes | None = None) -> bytes:
    """A PNG file four pixels wide, of a depth that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 4, len(rows), depth, colour_type, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            b"" if transparent is None else chunk(b"tRNS", transparent),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize(
    ("depth", "row"), [(1, b"\x50"), (2, b"\x1b"), (4, b"\x05\xaf"), (8, b"\x00\x55\xaa\xff")]
)
def test_transparent_grey_of_few_bits_is_white(depth, row):
    # 0, 1/3, 2/3 and 1 of white; of one bit 0, 1, 0, 1.
    grey = [0, 255, 0, 255] if depth == 1 else [0, 85, 170, 255]
    assert read(png(depth, 0, [row]), "L")[0].tolist() == grey
    darkest = read(png(depth, 0, [row], b"\0\0"), "L")[0].tolist()
    assert darkest == [value or 255 for value in grey]
    if depth > 1:
        third = struct.pack(">H", (2**depth - 1) // 3)
        assert read(png(depth, 0, [row], third), "L")[0].tolist() == [0, 255, 170, 255]


def test_colours_of_16_bits_are_scaled_and_a_transparent_one_is_refused():
    row = struct.pack(
        ">12H", *(0, 0, 0), *(257 * 7, 257 * 8, 257 * 9), *3 * [65535], *(0, 65535, 0)
    )
    expected = [[0, 0, 0], [7, 8, 9], [255, 255, 255], [0, 255, 0]]
    assert read(png(16, 2, [row]))[0].tolist() == expected
    with pytest.raises(OSError, match="x.png cannot be read .* 16 bits is transparent.* Save it"):
        read(png(16, 2, [row], struct.pack(">3H", 1, 2, 3)))


def test_half_transparent_colours_are_mixed_with_white():
    content = encoded(Image.new("RGBA", (4, 4), (200, 100, 0, 51)), "PNG")
    np.testing.assert_allclose(read(content)[0, 0], [244, 224, 204], atol=1)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP"])
def test_transparency_of_other_formats(format):
    picture = drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255))
    options = {"lossless": True} if format == "WEBP" else {}
    grey = read(encoded(picture, format, **options), "L")
    assert grey[4, 4] == 0 and grey[0, 0] == 255


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_colours_for_print_are_converted(format):
    content = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), format)
    np.testing.assert_allclose(read(content)[4, 4], [255, 0, 0], atol=2)
    np.testing.assert_allclose(read(content, "L")[4, 4], 76, atol=2)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_pictures_are_turned_as_the_camera_was_held(format, depth):
    if depth is np.uint16 and format in ("JPEG", "WEBP"):
        pytest.skip(f"{format} has 8 bits")
    stored = np.zeros((16, 32), dtype=depth)
    stored[:, 16:] = np.iinfo(depth).max
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    content = encoded(Image.fromarray(stored), format, exif=exif)
    grey = read(content, "L")
    assert grey.shape == (32, 16)
    assert grey[:12].max() < 10 and grey[20:].min() > 245


def test_the_first_frame_is_taken():
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(read(content, "L")).tolist() == [10]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"it is empty \(0 bytes\). Save it as PNG or JPEG"),
        (b"no picture", "Pillow does not know its format. Save it as PNG or JPEG"),
        (encoded(Image.fromarray(GRADIENT.astype(np.uint8)), "PNG")[:50], "Save it again as"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:1000], "truncated.*Save it again"),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG"],
)
def test_files_that_cannot_be_read_are_named_with_what_to_do(content, reason, tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    for arguments in ((path,), (path, "L", content)):
        with pytest.raises(
            OSError, match=f"x.jpg cannot be read as an image: .*{reason}.*, or remove it"
        ):
            read_picture(*arguments)


def test_a_decompression_bomb_is_named(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encoded(Image.new("1", (16, 16)), "PNG")
    message = "folder/x.png cannot be read .* too many pixels .*256 pixels.* Reduce its size, or"
    with pytest.raises(OSError, match=message):
        read(content)


def test_every_cut_of_a_file_is_an_error_that_names_it():
    # Decoders raise whatever they come upon: SyntaxError, ValueError, struct.error.
    picture = Image.effect_noise((20, 20), 50)
    for format in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        content = encoded(picture, format)
        rng = np.random.default_rng(0)
        for _ in range(150):
            broken = bytearray(content[: rng.integers(len(content))])
            for place in rng.integers(max(len(broken), 1), size=3 if broken else 0):
                broken[place] = rng.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert read(bytes(broken)).ndim == 3
                except OSError as error:
                    assert "folder/x.png cannot be read as an image: " in str(error)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(OSError, match="gone.png cannot be read as an image: there is no such file"):
        read_picture(Path(tmp_path / "gone.png"))


def test_pixels_are_channels_of_unit_range():
    colours = np.random.default_rng(0).integers(256, size=(5, 7, 3)).astype(np.uint8)
    values = pixels(Image.fromarray(colours))
    assert values.shape == (3, 5, 7) and values.is_contiguous()
    np.testing.assert_allclose(values.permute(1, 2, 0).numpy() * 255, colours, atol=1e-4)
    assert pixels(Image.fromarray(colours[..., 0])).shape == (1, 5, 7)


def test_formats_that_need_other_programs_are_not_opened(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(OSError, match="picture.png cannot be read as an image"):
        read_picture(tmp_path / "picture.png")
