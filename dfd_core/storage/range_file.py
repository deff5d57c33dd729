"""A remote file read by range requests: in whole blocks, the latest of which are kept, so that small reads make few requests."""

from __future__ import annotations

import io
import os

import pyarrow as pa
from fsspec.caching import BlockCache

BLOCK_BYTES = 2 << 20
"""Size of one request: some ten seconds of video, so that opening a video reads little of it."""
NUM_BLOCKS_KEPT = 64
"""A video of up to 128 MiB is fetched once, though its packets are read twice: to index them and to decode them."""


class RangeFile(io.RawIOBase):
    """A seekable file over a file of which every read is a request."""

    def __init__(self, file: pa.NativeFile) -> None:
        """Take over `file`, which is opened for random access."""
        self._file = file
        self._position = 0
        self.size: int = file.size()
        self._blocks = BlockCache(BLOCK_BYTES, self._fetch, self.size, NUM_BLOCKS_KEPT)

    def _fetch(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        data: bytes = self._file.read_at(end - start, start)
        if len(data) != end - start:
            raise OSError(f"{end - start} bytes were asked for and {len(data)} came")
        return data

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        end = self.size if size < 0 else min(self._position + size, self.size)
        data: bytes = self._blocks._fetch(self._position, end)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"Expected a position >= 0. Received: {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Close the file underneath and forget its blocks."""
        if not self.closed:
            self._blocks = None
            self._file.close()
        super().close()
