"""A small ICC profile for four inks, and what its colours are in sRGB by the equations alone."""

import itertools
import struct
from typing import Any

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
# Bradford adaptation from D50 to the white of sRGB, then its primaries (Lindbloom)
_TO_LINEAR_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def lab_of(inks: Any) -> Any:
    """`[..., L a b]` of `[..., C M Y K]`, 0 to 1: inks that are like none of the trade. They add up, so that a table of
    the corners alone, interpolated in any way, is exact; all of them together are black."""
    cyan, magenta, yellow, black = np.moveaxis(np.asarray(inks, np.float64), -1, 0)
    light = 100 - 25 * (cyan + magenta + yellow + black)
    return np.stack([light, 40 * (yellow - cyan), 40 * (magenta - cyan)], -1)


def srgb_of(lab: Any) -> Any:
    """`[..., R G B]`, 0 to 255."""
    light, a, b = np.moveaxis(lab, -1, 0)
    y = (light + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], -1)
    xyz = D50 * np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    linear = (xyz @ _TO_LINEAR_SRGB.T).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def cmyk_profile() -> bytes:
    """Version 2.4, class printer, with one table (A2B0, lut16) that holds `lab_of` of every corner."""
    corners = lab_of(list(itertools.product((0, 1), repeat=4)))  # the first ink changes slowest
    table = np.rint(corners * [652.8, 256, 256] + [0, 32768, 32768]).astype(">u2").tobytes()
    straight = struct.pack(">2H", 0, 65535)
    identity = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    lut = b"mft2" + struct.pack(">4x4B", 4, 3, 2, 0) + identity + struct.pack(">2H", 2, 2)
    lut += straight * 4 + table + straight * 3
    white = b"XYZ " + struct.pack(">4x3i", *(round(65536 * value) for value in D50))
    return _profile({b"A2B0": lut, b"wtpt": white})


def _profile(tags: dict[bytes, bytes]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    entries, content = b"", b""
    for name, data in tags.items():
        entries += name + struct.pack(">2I", at + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    header = struct.pack(">4xI4s4s4s6H4s", 0x02400000, b"prtr", b"CMYK", b"Lab ", 2000, 1, 1, 0, 0, 0, b"acsp")
    header += struct.pack(">28x3i", *(round(65536 * value) for value in D50))
    header = struct.pack(">I", at + len(content)) + header
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + entries + content
