"""Pictures and videos: damaged, enormous, in formats that are programs or playlists, and in place of each other."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.robustness.hostile.folders import ROW, RUN, folder, replaced, row
from tests.robustness.hostile.table import Hostile

case = partial(Hostile, "pictures")

SHOW = ("show", "x.png", "What color")


def shown(data: Callable[[], bytes], name: str = "x.png") -> Callable[[Path], None]:
    """Write a file that `vlmprune show` is given."""
    return lambda place: (place / name).write_bytes(data()) and None


def beside(data: Callable[[], bytes], name: str, **changes: Any) -> Callable[[Path], None]:
    """Write a folder of one question about a file of this content."""
    return folder(row(image=name, **changes), also=lambda place: (place / name).write_bytes(data()) and None)


@cache
def encoded(kind: str, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    """Return a picture in a format of PIL's."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a grey PNG of such a header, its chunks, and no end of pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def psd(side: int, channels: int, mode: int, compression: bytes) -> bytes:
    """Return a Photoshop file that has no layers and no pixels."""
    return b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", channels, side, side, 8, mode) + bytes(12) + compression


def gif(side: int, frames: int) -> bytes:
    """Return an animation of so many equal frames."""
    one = encoded("GIF", (side, side), "P")
    start = one.index(b",", 13 + 3 * 256)
    return one[:start] + one[start:-1] * frames + b";"


def scans(side: int, count: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


@cache
def large(kind: str = "PNG") -> bytes:
    """Return a picture of 169 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(buffer, kind)
    return buffer.getvalue()


@cache
def video(frames: int = 16) -> bytes:
    """Return an MP4."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64)))))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def nan_tiff() -> bytes:
    """Return a TIFF of floats that are no numbers."""
    import numpy as np

    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


DAMAGED = ("AVIF", "BMP", "DDS", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "WEBP")

PICTURES: dict[str, Callable[[], bytes]] = {
    "PNG: 2 billion pixels a side": lambda: png(2**31 - 1, 2**31 - 1),
    "PNG: no pixel": lambda: png(0, 0),
    "PNG: 196 megapixels": lambda: png(14_000, 14_000),
    "PNG: 169 megapixels that are not there": lambda: png(13_000, 13_000, chunk(b"IDAT", b"")),
    "PNG: a profile of 200 MB": lambda: png(
        8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2 * 10**8))), chunk(b"IDAT", b"")
    ),
    "PNG: a text of 200 MB": lambda: png(
        8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * 10**8))), chunk(b"IDAT", b"")
    ),
    "PSD: 900 megapixels": lambda: psd(30_000, 3, 3, b"\0\0"),
    "PSD: no pixels": lambda: psd(8, 3, 3, b"\0\0"),
    "PSD: zipped": lambda: psd(8, 3, 3, b"\0\2"),
    "PSD: an unknown mode": lambda: psd(8, 3, 6, b"\0\0"),
    "DDS: an unknown compression": lambda: (
        b"DDS "
        + struct.pack("<7I", 124, 0x1007, 8, 8, 0, 0, 0)
        + bytes(44)
        + struct.pack("<2I", 32, 4)
        + b"DXT9"
        + bytes(40)
    ),
    "EPS: a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/etc/passwd) run\n",
    "WMF": lambda: (
        b"\xd7\xcd\xc6\x9a" + bytes(4) + struct.pack("<HHH", 9, 9, 96) + bytes(8) + b"\x01\0\x09\0" + bytes(99)
    ),
    "FITS": lambda: b"".join(
        line.ljust(80)
        for line in (b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 2", b"NAXIS1  = 9", b"NAXIS2  = 9", b"END")
    ).ljust(2880),
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(99),
    "BUFR": lambda: b"BUFR" + bytes(99),
    "GRIB": lambda: b"GRIB" + bytes(3) + b"\1" + bytes(99),
    "PDF": lambda: b"%PDF-1.4\n",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF: a header": lambda: b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
    "TIFF: nan": nan_tiff,
    "ICNS: nothing": lambda: b"icns" + struct.pack(">I", 8),
    "PPM: 169 megapixels that are not there": lambda: b"P6 13000 13000 255\n",
    "XPM: 169 megapixels that are not there": lambda: (
        b'/* XPM */\nstatic char *x[] = {\n"13000 13000 1 1",\n"a c #fff",\n'
    ),
    "QOI: 169 megapixels that are not there": lambda: b"qoif" + struct.pack(">IIBB", 13_000, 13_000, 3, 0),
    "ICO: 196 megapixels inside": lambda: (
        b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0" + struct.pack("<II", 99, 22) + png(14_000, 14_000)
    ),
    "JPEG: 3,000 scans": lambda: scans(2_000, 3_000),
    "GIF: 65,535 x 65,535": lambda: (
        b"GIF89a"
        + struct.pack("<HH", 65_535, 65_535)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHH", 0, 0, 1, 1)
        + b"\0\2\2\x44\1\0;"
    ),
    "GIF: 500 frames of 36 megapixels": lambda: gif(6_000, 500),
    "GIF: 100,000 frames": lambda: gif(256, 100_000),
    "a text": lambda: b"no picture\n",
    "nothing": lambda: b"",
}
SOON = {"EPS: a program", "PSD: zipped"}

VIDEOS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"hello\n" * 100,
    "cut in half": lambda: video()[: len(video()) // 2],
    "no frame": lambda: video(0),
    "a playlist": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "a list of other files": lambda: b"ffconcat version 1.0\nfile secret.mp4\n",
    "a session": lambda: (
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    ),
    "a manifest": lambda: (
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        b"<AdaptationSet><Representation id='1' bandwidth='1'><BaseURL>secret.mp4</BaseURL></Representation>"
        b"</AdaptationSet></Period></MPD>"
    ),
    "subtitles": lambda: b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "a terminal's art": lambda: b"\x1b[31mhello\x1b[0m\n" * 100,
}


def with_secret(data: bytes) -> Callable[[Path], None]:
    """Write a folder of one question about x.mp4, beside a video that x.mp4 may point to."""

    def also(place: Path) -> None:
        (place / "x.mp4").write_bytes(data)
        (place / "secret.mp4").write_bytes(video())

    return folder(row(image="x.mp4"), also=also)


def thin(size: tuple[int, int]) -> Callable[[Path], None]:
    """Write a folder of one question about a picture of this size."""
    return folder(also=replaced("a.png", lambda file: Image.new("RGB", size).save(file)))


CASES = [
    *(
        case(name, SHOW, ("x.png",) if "pixels a side" not in name else (), shown(data), quick=name in SOON)
        for name, data in PICTURES.items()
    ),
    *(
        case(f"{kind}: the first 40 bytes", SHOW, ("x.png",), shown(lambda kind=kind: encoded(kind)[:40]))
        for kind in DAMAGED
    ),
    *(
        case(f"video: {name}", RUN, ("x.mp4",), lambda place, data=data: with_secret(data())(place))
        for name, data in VIDEOS.items()
    ),
    case("video: a pipe", RUN, ("x.mp4",), folder(row(image="x.mp4"), also=replaced("x.mp4", os.mkfifo)), quick=True),
    case("video: a folder", RUN, ("x.mp4",), folder(row(image="x.mp4"), also=replaced("x.mp4", Path.mkdir))),
    *(
        case(f"video: num_frames={n}", (*RUN, f"benchmark.num_frames={n}"), (), with_secret(video()))
        for n in (1_000_000, 10**9)
    ),
    *(
        case(f"{w} x {h}, padded", (*RUN, "model.image=pad"), (f"{w} x {h}",), thin((w, h)), quick=h == 1)
        for w, h in ((1, 60_000), (20_000, 1))
    ),
    case(
        "six of 169 megapixels in one question",
        RUN,
        ("sample q", "pixels together"),
        folder(
            json.dumps(ROW | {"image": [f"{number}.png" for number in range(6)]}),
            also=lambda place: [(place / f"{number}.png").write_bytes(large()) for number in range(6)] and None,
        ),
    ),
]
