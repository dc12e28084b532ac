"""A checksum of files: names, sizes and content; of much, a part of the content."""

import numpy as np

from calib_jax.data import fingerprints


def test_every_byte_of_files_counts(tmp_path, monkeypatch):
    path = tmp_path / "x.array_record"
    content = bytearray(np.random.default_rng(0).integers(0, 256, 1_000_000, np.uint8).tobytes())
    path.write_bytes(content)
    before = fingerprints.fingerprint([path])
    for position in (0, 99_999, 500_001, 999_999):
        content[position] ^= 1
        path.write_bytes(content)
        assert fingerprints.fingerprint([path]) != before
        content[position] ^= 1
    path.write_bytes(content)
    assert fingerprints.fingerprint([path]) == before
    path = path.rename(tmp_path / "y.array_record")
    assert fingerprints.fingerprint([path]) != before
    # Of more than it reads, both ends and blocks between them.
    monkeypatch.setattr(fingerprints, "_WHOLE", 1000)
    monkeypatch.setattr(fingerprints, "_NUM_BLOCKS", 4)
    before = fingerprints.fingerprint([path])
    for position, is_seen in ((0, True), (200_000, False), (330_000, True), (999_999, True)):
        content[position] ^= 1
        path.write_bytes(content)
        assert (fingerprints.fingerprint([path]) != before) is is_seen
        content[position] ^= 1


def test_the_size_counts_where_not_every_byte_does(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_WHOLE", 10)
    path, found = tmp_path / "x", set()
    for size in (300_000, 300_001, 400_000):
        path.write_bytes(bytes(size))
        found.add(fingerprints.fingerprint([path]))
    assert len(found) == 3
    assert fingerprints.fingerprint([]) == 0
