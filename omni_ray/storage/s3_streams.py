"""Reading an object by ranges as a seekable stream, and writing one in parts."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from omni_ray.errors import StorageError
from omni_ray.storage.base import Slice, Writer
from omni_ray.storage.s3_client import client, code_of, naming, was_retried

if TYPE_CHECKING:
    from omni_ray.storage.s3 import S3Storage

FIRST_WINDOW = 256 << 10  # of one GET after a jump; doubles while reading goes straight on
LAST_WINDOW = 8 << 20
AHEAD = 4  # windows of LAST_WINDOW that are fetched before they are asked for
PROVEN_BYTES = 32 << 20  # read straight on before the next such stretch is fetched ahead
PART_BYTES = 16 << 20
PARTS_PER_SIZE = 1000  # then parts double, so that 10,000 parts are enough for any object
PARTS_AT_ONCE = 4
MIN_PART_BYTES = 5 << 20  # S3's own limits of a part that is not the last one
MAX_PARTS = 10_000
CHECKSUM = "ChecksumCRC32"

Fetch = Callable[[int, int], bytes]  # start, length -> bytes


class RangeReader(io.RawIOBase):
    """A seekable stream over `size` bytes.

    A jump fetches little, straight reading more and more. What is sure to be read is fetched ahead in threads: the
    bytes [start, stop) of `region`, or, once much was read straight on, what comes next.
    """

    def __init__(self, fetch: Fetch, size: int, region: tuple[int, int] = (0, 0)) -> None:
        self._fetch = fetch
        self._size = size
        self._region = range(region[0], min(region[1], size))
        self._at = 0
        self._held = b""
        self._held_from = 0
        self._window = FIRST_WINDOW
        self._straight = 0  # bytes read since the last jump
        self._ahead: deque[tuple[int, Future[bytes]]] = deque()  # where each begins
        self._ahead_stop = 0  # where the last of them ends
        self._pool: ThreadPoolExecutor | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        want = max(0, self._size - self._at)
        want = want if size < 0 else min(size, want)
        parts = []
        while want:
            offset = self._at - self._held_from
            if not 0 <= offset < len(self._held):
                self._fill(want)
                offset = self._at - self._held_from
            data = self._held[offset : offset + want]
            parts.append(data)
            self._at += len(data)
            want -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._drop_ahead()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        super().close()

    def _fill(self, want: int) -> None:
        """Hold the bytes from here on, and have those under way that will be asked for next."""
        if self._held and self._held_from + len(self._held) == self._at:
            self._straight += len(self._held)
            self._window = min(self._window * 2, LAST_WINDOW)
        else:
            self._straight, self._window = 0, FIRST_WINDOW
        if self._ahead and self._ahead[0][0] == self._at:
            self._held = self._ahead.popleft()[1].result()
        else:
            self._drop_ahead()
            self._held = self._get(self._at, self._length_here(want))
        self._held_from = self._at
        self._look_ahead()

    def _length_here(self, want: int) -> int:
        if self._at in self._region:
            return min(LAST_WINDOW, self._region.stop - self._at)
        return max(self._window, min(want, LAST_WINDOW))

    def _look_ahead(self) -> None:
        start = self._ahead_stop if self._ahead else self._held_from + len(self._held)
        stop = self._size if self._straight >= PROVEN_BYTES else self._region.stop if start in self._region else 0
        while len(self._ahead) < AHEAD and start < stop:
            self._pool = self._pool or ThreadPoolExecutor(AHEAD, "s3-read")
            length = min(LAST_WINDOW, stop - start)
            self._ahead.append((start, self._pool.submit(self._get, start, length)))
            self._ahead_stop = start = start + length

    def _get(self, start: int, length: int) -> bytes:
        length = min(length, self._size - start)
        data = self._fetch(start, length)
        if len(data) != length:
            raise StorageError(f"bytes {start} to {start + length} asked for, {len(data)} came; run the command again")
        return data

    def _drop_ahead(self) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()


class StagedPut(Writer):
    """What is in memory as a whole is one PUT, however large (up to the 5 GB that S3 takes)."""

    def __init__(self, storage: "S3Storage", key: str, data: bytes) -> None:
        self._storage = storage
        self._key = key
        self._data = data

    def write(self, data: bytes | memoryview) -> None:
        self._data += data

    def append_slice(self, part: Slice) -> None:
        self._data += self._storage.read(*part)

    def commit(self) -> None:
        self._storage.put(self._key, self._data)

    def abort(self) -> None:
        return None


class S3Writer(Writer):
    """One PUT where all of it fits a part; a multipart upload, parts in parallel, where it does not."""

    def __init__(self, storage: "S3Storage", key: str) -> None:
        self._storage = storage
        self._key = key
        self._target = storage.target(key)
        self._uri = storage.uri_of(key)
        self._buffer = bytearray()
        self._upload = ""
        self._parts: list[Future[dict[str, Any]]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._committed = False

    def write(self, data: bytes | memoryview) -> None:
        self._buffer += data
        while len(self._buffer) >= (size := part_size(len(self._parts))):
            self._send(bytes(memoryview(self._buffer)[:size]))
            del self._buffer[:size]

    def append_slice(self, part: Slice) -> None:
        for start in range(part.start, part.start + part.length, LAST_WINDOW):
            length = min(LAST_WINDOW, part.start + part.length - start)
            data = self._storage.read(part.key, start, length)
            if len(data) != length:
                raise StorageError(
                    f"{self._storage.uri_of(part.key)}: ends {length - len(data)} bytes early; `omni-ray verify` lists "
                    "what is damaged"
                )
            self.write(data)

    def commit(self) -> None:
        if not self._upload:
            self._storage.put(self._key, bytes(self._buffer))
        else:
            if self._buffer:
                self._send(bytes(self._buffer))
            with naming(self._uri):
                parts = [future.result() for future in self._parts]
            self._storage.check()
            complete_upload(self._target, self._uri, self._upload, parts)
        self._committed = True
        self._close_pool()

    def abort(self) -> None:
        if self._upload and not self._committed:
            for future in self._parts:
                future.cancel()
            self._close_pool()
            abort_upload(self._target, self._uri, self._upload)
            self._upload = ""
        self._buffer.clear()

    def _send(self, data: bytes) -> None:
        if not self._upload:
            self._upload = create_upload(self._target, self._uri)
            self._pool = ThreadPoolExecutor(PARTS_AT_ONCE, "s3-write")
        number = len(self._parts) + 1
        if number > PARTS_AT_ONCE:  # no more in memory than are under way
            with naming(self._uri):
                self._parts[number - 1 - PARTS_AT_ONCE].result()
        assert self._pool is not None
        self._parts.append(self._pool.submit(upload_part, self._target, self._upload, number, data))

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None


def part_size(number: int) -> int:
    """Bytes of the part after `number` parts."""
    size: int = PART_BYTES << (number // PARTS_PER_SIZE)
    return size


def create_upload(target: dict[str, str], uri: str) -> str:
    """A new upload whose parts carry a CRC-32, unless AWS_REQUEST_CHECKSUM_CALCULATION says that the store has none."""
    checked = client().meta.config.request_checksum_calculation != "when_required"
    arguments = {**target, "ChecksumAlgorithm": "CRC32"} if checked else target
    with naming(uri):
        return str(client().create_multipart_upload(**arguments)["UploadId"])


def upload_part(target: dict[str, str], upload: str, number: int, data: bytes) -> dict[str, Any]:
    return named_part(number, client().upload_part(**target, UploadId=upload, PartNumber=number, Body=data))


def named_part(number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A part as the completion has to name it, from an answer that tells its ETag and, where it has one, its CRC."""
    told = {name: answer[name] for name in ("ETag", CHECKSUM) if answer.get(name)}
    return {"PartNumber": number, **told}


def complete_upload(target: dict[str, str], uri: str, upload: str, parts: Sequence[dict[str, Any]]) -> None:
    """Make the object of these parts visible. An answer that was lost is no failure if the object is there."""
    try:
        client().complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    except ClientError as error:
        with naming(uri):
            if code_of(error) == "NoSuchUpload" and was_retried(error):
                there = client().head_object(**target)
                if there["ETag"].strip('"') == joined_etag(part["ETag"] for part in parts):
                    return
            raise
    except BotoCoreError:
        with naming(uri):
            raise


def joined_etag(etags: Any) -> str:
    """The ETag of an object uploaded in parts: MD5 over the parts' MD5s, and their number."""
    digests = [bytes.fromhex(etag.strip('"')) for etag in etags]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def abort_upload(target: dict[str, str], uri: str, upload: str) -> None:
    """Give back the space of an upload that will not be finished; nothing happens where it is gone already."""
    with naming(uri):
        try:
            client().abort_multipart_upload(**target, UploadId=upload)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
