"""`MANIFEST.sha256`: the hashes of what a run has written, and of the model and the lock file that it used.

`sha256sum --check MANIFEST.sha256` checks the files; the lines with `#` are for `dfd verify` and for a reader.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfd_core.errors import OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.files import delete_file, exists, read_bytes, write_bytes
from dfd_core.storage.tables import parquet_files
from dfd_core.storage.text import one_line

TABLES = ("videos", "faces", "tracks", "spans", "pictures")
_CHUNK_BYTES = 4 << 20
_LINE = re.compile(r"(?P<note># )?(?P<sha256>[0-9a-f]{64})  (?P<name>\S.*)")
_LOCK_FILE = Path(__file__).parents[2] / "requirements.lock"
"""The lock file of a checkout; an installed package has none."""


@dataclass(frozen=True, slots=True)
class Hashes:
    """The content of `MANIFEST.sha256`.

    Attributes:
        files: SHA-256 of each file, by its path in the output folder.
        used: SHA-256 of what the run used: `model.keras`, `requirements.lock`.
    """

    files: dict[str, str]
    used: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the text that `parse` reads."""
        lines = [f"# {sha256}  {name}\n" for name, sha256 in sorted(self.used.items())]
        return "".join([*lines, *(f"{sha256}  {name}\n" for name, sha256 in sorted(self.files.items()))])

    @classmethod
    def parse(cls, text: str) -> Hashes:
        """Return what `text` holds.

        Raises:
            ValueError: A line is something else.
        """
        files: dict[str, str] = {}
        used: dict[str, str] = {}
        for line in text.splitlines():
            found = _LINE.fullmatch(line)
            if found is None:
                raise ValueError(f"Expected a SHA-256 and a name. Received: {line[:100]!r}")
            (used if found["note"] else files)[found["name"]] = found["sha256"]
        return cls(files, used)


def sha256_of(address: Address) -> str:
    """Return the SHA-256 of a file, local or remote, as 64 hexadecimal digits; OSError as the file system gives it."""
    found = hashlib.sha256()
    with address.fs.open_input_stream(address.path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def output_files(out: OutputFolder) -> Iterator[str]:
    """Yield the files that a reader uses, by their paths in the folder: the parts of the tables, and `run.json`."""
    for table in TABLES:
        for path in parquet_files(out.root / table):
            yield f"{table}/{posixpath.basename(path)}"
    if exists(out.run_json):
        yield out.run_json.name


def write_hashes(out: OutputFolder, model: dict[str, Any] | None) -> None:
    """Write the hashes of what is in `out` now; the last step of a run.

    Args:
        out: The output folder, complete.
        model: What `run.json` says of the model; None if nothing was scored.

    Raises:
        OutputError: A file cannot be read or written.
    """
    used = {"model.keras": model["sha256"]} if model and model.get("sha256") else {}
    if _LOCK_FILE.is_file():
        used[_LOCK_FILE.name] = hashlib.sha256(_LOCK_FILE.read_bytes()).hexdigest()
    try:
        files = {name: sha256_of(out.root.below(name)) for name in output_files(out)}
        write_bytes(out.hashes, Hashes(files, used).to_text().encode())
    except OSError as error:
        raise OutputError(f"{out.hashes} cannot be written: {one_line(error)}") from error


def remove_hashes(out: OutputFolder) -> None:
    """Remove the hashes of an earlier attempt, whose files are about to change.

    Raises:
        OutputError: They cannot be removed.
    """
    try:
        if exists(out.hashes):
            delete_file(out.hashes)
    except OSError as error:
        raise OutputError(f"{out.hashes} cannot be removed: {one_line(error)}") from error


def read_hashes(out: OutputFolder) -> Hashes:
    """Return the hashes that the last run has written.

    Raises:
        OutputError: There are none, because no run was completed, or they cannot be read.
    """
    if not exists(out.hashes):
        raise OutputError(f"{out.root} holds no {out.hashes.name}: no run was completed there")
    try:
        return Hashes.parse(read_bytes(out.hashes).decode())
    except (OSError, ValueError) as error:
        raise OutputError(f"{out.hashes} cannot be read: {one_line(error)}") from error
