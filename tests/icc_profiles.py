"""Colour profiles, made from numbers: Pillow has none but sRGB's."""

import struct

# Columns of red, green, blue in XYZ at D50 (ICC's white), and gamma. ProPhoto: ROMM RGB, ISO 22028-2.
PROPHOTO = (((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)), 1.8)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """Return an ICC profile of version 2 with these tags (ICC.1:2001-04)."""
    tags = {b"wtpt": _xyz(0.9642, 1.0, 0.8249), **tags}
    offset, table, data = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    header = struct.pack(">I4sI4s4s4s", offset + len(data), b"lcms", 0x02100000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def rgb_profile(colours: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    columns = {name: _xyz(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True)}
    return _profile(b"RGB ", columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def ink_profile(cyan: int) -> bytes:
    """Return a CMYK profile whose cyan is grey, of a lightness of `cyan` of 255 in Lab; black is black, others nothing.

    An A2B0 table of the type mft1, with two points per ink.
    """
    straight = bytes(range(256))
    # Corners of the cube of inks, cyan the slowest and black the fastest.
    points = b"".join(bytes([0 if ink & 1 else cyan if ink & 8 else 255, 128, 128]) for ink in range(16))
    identity = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * straight + points + 3 * straight
    return _profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")
