"""A model on this machine's disk, wherever it lies."""

from __future__ import annotations

from dfd_core.errors import ModelError
from dfd_core.storage.address import Address
from dfd_core.storage.download import local_copy
from dfd_core.storage.reasons import refusal_of
from dfd_core.storage.uri import is_remote


def local_model(uri: str) -> str:
    """Return a local path with the bundle or the file at `uri`; what is not remote is returned as it is.

    Raises:
        ModelError: The storage cannot be read, or nothing is there.
        RequestError: It is no address.
    """
    if not is_remote(uri):
        return uri
    address = Address.parse(uri)
    try:
        return local_copy(address)
    except OSError as error:
        raise ModelError(f"The model at {uri!r} cannot be read: {refusal_of(address, error)}") from error
