"""Packs scikit-learn's digits.csv.gz into digits.planes.gz (see README.md in this folder).

    python make_digits.py path/to/digits.csv.gz digits.planes.gz
"""

import csv
import gzip
import io
import struct
import sys
import zlib

SAMPLES, PIXELS = 1797, 64


def pack(source: str) -> bytes:
    """The 64 pixel planes (every image's first pixel, then every second ...), then the labels."""
    with gzip.open(source, "rt", newline="") as file:
        rows = [[int(float(value)) for value in row] for row in csv.reader(file)]
    assert len(rows) == SAMPLES and all(len(row) == PIXELS + 1 for row in rows)
    assert all(0 <= value <= 16 for row in rows for value in row[:PIXELS])
    assert all(0 <= row[PIXELS] <= 9 for row in rows)
    return bytes(row[column] for column in range(PIXELS + 1) for row in rows)


def gz(raw: bytes) -> bytes:
    """The smallest gzip member over zlib's strategies, with an empty header: same bytes each time."""
    bodies = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE):
        for memory in range(1, 10):
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15, memory, strategy)
            bodies.append(deflate.compress(raw) + deflate.flush())
    header = b"\x1f\x8b\x08\x00" + struct.pack("<I", 0) + b"\x02\xff"
    return header + min(bodies, key=len) + struct.pack("<II", zlib.crc32(raw), len(raw))


if __name__ == "__main__":
    raw = pack(sys.argv[1])
    packed = gz(raw)
    assert gzip.GzipFile(fileobj=io.BytesIO(packed)).read() == raw
    with open(sys.argv[2], "wb") as file:
        file.write(packed)
    print(f"{len(raw)} bytes packed into {len(packed)}")
