"""Pictures as people have them: turned by EXIF, 16 bits, floats, transparent, of any mode; and broken ones."""

from __future__ import annotations

import io
import subprocess
import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.fixtures import encoded
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.media import decode_image, rgb

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
BIG = np.frombuffer(RAMP.astype("<u2").tobytes(), "<u2").reshape(4, 256) * 257  # 0 to 65,535


def cell(image, kind="PNG", **settings):
    return {"bytes": encoded(image, kind, **settings), "path": None}


def tag(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def halves():
    """40 x 20, with a corner that no turn leaves in its place."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    image.paste("white", (0, 0, 8, 8))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_upright_as_datasets_decodes_it_or_as_stored(kind, orientation):
    stored = cell(halves(), kind, exif=tag(orientation), **({} if kind == "PNG" else {"quality": 95}))
    upright, as_stored = decode_image(stored), decode_image(stored, orientation="stored")
    assert upright.tobytes() == datasets.Image(mode="RGB").decode_example(stored).tobytes()
    assert upright.size == ((20, 40) if orientation in (5, 6, 7, 8) else (40, 20))
    published = Image.open(io.BytesIO(stored["bytes"])).convert("RGB")  # LLaVA's model_vqa_loader.py
    assert as_stored.tobytes() == published.tobytes() and as_stored.size == (40, 20)
    assert (upright.tobytes() == as_stored.tobytes()) == (orientation in (0, 1, 9))


def test_the_eight_orientations_show_the_same_picture():
    """Each file holds the picture turned the other way."""
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for orientation, turn in back.items():
        image = halves() if turn is None else halves().transpose(Image.Transpose(turn))
        assert decode_image(cell(image, exif=tag(orientation))).tobytes() == halves().tobytes(), orientation


def test_an_exif_that_cannot_be_read_turns_nothing():
    for exif in (b"Exif\0\0garbage, no TIFF header", b"Exif\0\0II*\0\xff\xff\xff\xff", b""):
        assert decode_image(cell(halves(), "JPEG", exif=exif)).size == (40, 20)


def test_an_orientation_counts_where_another_entry_is_damaged():
    """exif_transpose raises struct.error here: it writes the other entries anew."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0103] = 6, 1
    data = exif.tobytes().replace(b"\x01\x03\x00\x03", b"\x01\x03\x00\x02")  # now a text
    assert decode_image(cell(halves(), "JPEG", exif=data)).size == (20, 40)


GREYS = {
    "16 bits, PNG": cell(Image.fromarray(BIG)),
    "16 bits, TIFF": cell(Image.fromarray(BIG), "TIFF"),
    "16 bits, big-endian": cell(Image.fromarray(BIG.astype(">u2")), "TIFF"),
    "16 bits, times 256": cell(Image.fromarray(RAMP.astype(np.uint16) * 256)),
    "16 bits, PGM": {"bytes": b"P5 256 4 65535\n" + BIG.astype(">u2").tobytes(), "path": None},
    "32 bits of 16": cell(Image.fromarray(BIG.astype(np.int32)), "TIFF"),
    "32 bits of 8": cell(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
    "floats to 1": cell(Image.fromarray((RAMP / 255).astype(np.float32)), "TIFF"),
    "floats to 255": cell(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
}


@pytest.mark.parametrize("name", GREYS)
def test_greys_of_many_bits_keep_their_shades(name):
    image = decode_image(GREYS[name])
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "values", [np.full((2, 2), np.nan), np.array([[0, np.inf]]), np.array([[-0.5, 0.5]]), np.array([[0, 300.0]])]
)
def test_greys_without_a_known_white_are_refused(values):
    with pytest.raises(BadSample, match=r"grey values from .*; allowed: 0 to 1 or 0 to 255"):
        decode_image(cell(Image.fromarray(values.astype(np.float32)), "TIFF"))
    with pytest.raises(BadSample, match=r"grey values from .*; allowed: 0 to 65535"):
        decode_image(cell(Image.fromarray(np.array([[0, 65536]], dtype=np.int32)), "TIFF"))


def palette():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0] * 256)
    return image


CLEAR = {
    "RGBA": cell(Image.new("RGBA", (8, 8), (0, 0, 0, 0))),
    "LA": cell(Image.new("LA", (8, 8), (0, 0))),
    "P": cell(palette(), transparency=0),
    "P, alpha of each colour": cell(palette(), transparency=bytes([0] * 256)),
    "L": cell(Image.new("L", (8, 8), 0), transparency=0),
    "RGB": cell(Image.new("RGB", (8, 8), "black"), transparency=(0, 0, 0)),
    "I;16": cell(Image.fromarray(np.zeros((8, 8), dtype=np.uint16)), transparency=0),
    "GIF": cell(palette(), "GIF", transparency=0),
    "WebP": cell(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("name", CLEAR)
def test_what_is_transparent_is_white(name):
    assert decode_image(CLEAR[name]).getcolors() == [(64, (255, 255, 255))]


def test_half_transparent_is_half_white():
    assert decode_image(cell(Image.new("RGBA", (1, 1), (200, 0, 0, 128)))).getpixel((0, 0)) == (227, 127, 127)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_other_modes_keep_their_colours(mode):
    image = (
        Image.new("RGB", (8, 8), "white").convert(mode) if mode != "LAB" else Image.new("LAB", (8, 8), (255, 128, 128))
    )
    kind = "JPEG" if mode == "YCbCr" else "PNG" if mode in ("1", "L", "P", "RGB") else "TIFF"
    # No format holds HSV or RGBX.
    shown = rgb(image) if mode in ("HSV", "RGBX") else decode_image(cell(image, kind))
    assert min(shown.getpixel((4, 4))) >= 253


def truncated():
    return cell(Image.effect_noise((64, 64), 90), "JPEG")["bytes"][:700]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (truncated(), r"a\.png: image file is truncated"),
        (b"", r"a\.png: no picture that PIL knows"),
        (b"this is a text", r"a\.png: no picture that PIL knows"),
        (cell(Image.new("1", (14000, 14000)))["bytes"], r"a\.png: Image size \(196000000 pixels\) exceeds limit"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(content, said, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadSample, match=rf"its image cannot be decoded \(.*/{said}") as raised:
        decode_image("a.png", tmp_path)
    assert raised.value.__cause__ is not None


def test_a_large_picture_and_a_damaged_exif_are_decoded_without_a_word(tmp_path):
    Image.new("RGB", (12, 12)).save(tmp_path / "a.jpg", exif=tag(6)[:-5])
    code = (
        "import sys; from PIL import Image; from vlmprune.benchmarks.media import decode_image; "
        "Image.MAX_IMAGE_PIXELS = 100; print(decode_image(sys.argv[1]).size)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.jpg"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(12, 12)\n", "")


def test_every_flipped_bit_is_a_picture_or_a_bad_sample():
    """Header and EXIF of four formats, damaged in 400 ways."""
    rng = np.random.default_rng(0)
    whole = [cell(halves(), kind, exif=tag(6))["bytes"] for kind in ("JPEG", "PNG", "WEBP")]
    whole.append(cell(halves(), "TIFF")["bytes"])
    outcomes = {"decoded": 0, "bad": 0}
    for _ in range(100):
        for data in whole:
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 200), 3):
                damaged[place] ^= 1 << int(rng.integers(8))
            try:
                assert decode_image({"bytes": bytes(damaged), "path": None}).mode == "RGB"
                outcomes["decoded"] += 1
            except BadSample as error:
                assert "0x" not in str(error)  # no address of an object: the same reason in every run
                outcomes["bad"] += 1
    assert min(outcomes.values()) > 20
