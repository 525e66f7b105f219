"""A backend in a directory of files, shared by the processes of a host."""

from __future__ import annotations

from typing import ClassVar, Final

from tiered.clients.base import CacheClient
from tiered.clients.files import FilesCacheClient
from tiered.region.api import BackendArguments
from tiered.region.backends.clients import ClientBackend
from tiered.region.exception import ValidationError

__all__ = ["FilesBackend"]

_DEFAULT_SIZE: Final = 10**9
_PASSED_ON: Final = frozenset({"checksum_key", "fsync", "serializer"})


class FilesBackend(ClientBackend):
    """Values in the files of a directory, as ``"files"``: a :class:`tiered.FilesCacheClient`.

    Args:
        arguments: those of :class:`ClientBackend` without ``client``, and

            - ``path``: of the directory; must be given.
            - ``size_bytes``: what the files may take together; 1 GB by default.
            - ``checksum_key``, ``serializer``, ``fsync``: as of ``FilesCacheClient``.

    Raises:
        ValidationError: an argument that cannot be right.
        MissingDependency: ``serializer`` needs a package that is not there.

    Threads: safe, and in forked children. Nothing is opened before the first use.
    """

    arguments_known: ClassVar[frozenset[str]] = ClientBackend.arguments_known - {"client"} | {
        "path",
        "size_bytes",
        *_PASSED_ON,
    }

    arguments_text: ClassVar[frozenset[str]] = frozenset({"checksum_key", "path"})

    def made_client(self, arguments: BackendArguments) -> CacheClient:
        options = {name: value for name, value in arguments.items() if name in _PASSED_ON}
        size = arguments.get("size_bytes", _DEFAULT_SIZE)
        try:
            return FilesCacheClient(size, arguments.get("path", ""), **options)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"the arguments of {type(self).__name__}: {error}") from error
