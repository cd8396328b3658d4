"""The tars of segments are those of the standard library, byte for byte."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from omni_ray.prepare.media_segment import _tar
from omni_ray.prepare.records import MediaSample

SIZES = st.sampled_from([0, 1, 511, 512, 513, 9728, 10_240, 30_000])


@given(st.lists(st.tuples(SIZES, SIZES), max_size=12))
def test_tars_are_those_of_tarfile(sizes: list[tuple[int, int]]) -> None:
    samples = [MediaSample(b"p" * size, ".jpg", "t" * length, width=1, height=1) for size, length in sizes]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, sample in enumerate(samples):
            for name, data in (("jpg", sample.data), ("txt", sample.text.encode())):
                member = tarfile.TarInfo(f"block-{number:06d}.{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    names, offsets, content = _tar(samples, "block")
    assert content == sink.getvalue()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert offsets == [archive.getmember(name).offset_data for name in names]
