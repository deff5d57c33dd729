"""Whether a source names pictures of faces, and if so, which."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.fs as pafs

from dfd_core.errors import ManifestError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.sources.pictures.face_folder import is_of_faces, read_folder
from dfd_core.sources.pictures.face_table import holds_pictures, parquet_files, read_tables
from dfd_core.sources.pictures.runs import PictureSource
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists
from dfd_core.storage.text import is_text, one_line


def read_pictures(source: str) -> PictureSource | None:
    """Return the pictures that `source` names, or None if it does not name pictures.

    Raises:
        ManifestError: It does, and they cannot be used; the message names the rows.
        RequestError: The address has credentials in it, or no storage is known for it.
    """
    if not is_text(source):
        return None
    address = Address.parse(source)
    folder, fs, path = OutputFolder(address), address.fs, address.path
    try:
        kind = fs.get_file_info(path).type
        if kind == pafs.FileType.Directory and exists(folder.run_json):
            return read_folder(folder) if is_of_faces(folder) else None
        files = parquet_files(fs, path, kind)
        if not files or not holds_pictures(fs, files[0].path):
            return None
    except OSError:  # who lists the videos says what it is
        return None
    try:
        return read_tables(source, fs, files)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"The pictures at {source!r} cannot be read: {one_line(error)}") from error
