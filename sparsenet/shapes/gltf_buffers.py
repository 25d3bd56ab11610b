"""The bytes that a glTF document refers to: embedded, in the chunk of a GLB, or in files of its folder."""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from sparsenet.shapes.mesh import MeshError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DATA = re.compile(r"data:[^,]*?(;base64)?,", re.IGNORECASE)


class Buffers:
    """The buffers of one document, each read on first use.

    Parameters
    ----------
    document : the glTF document
    folder : folder of the buffer files; None: files are not allowed
    binary : the binary chunk of a GLB, used for the first buffer if that has no URI
    """

    def __init__(self, document: dict[str, Any], folder: Path | None, binary: memoryview | None):
        self._list = document.get("buffers", [])
        self._folder, self._binary = folder, binary
        self._read: dict[int, memoryview] = {}

    def __getitem__(self, number: int) -> memoryview:
        """The bytes of a buffer, of its stated length.  Raises MeshError if there are fewer."""
        if number not in self._read:
            buffer = self._list[number]
            size, address = whole(buffer["byteLength"], "byteLength"), buffer.get("uri")
            found = self._chunk(number, buffer) if address is None else self._fetch(number, address, size)
            if len(found) < size:
                raise MeshError(f"buffer {number} declares {size} bytes, there are {len(found)}")
            self._read[number] = found[:size]
        return self._read[number]

    def _chunk(self, number: int, buffer: dict[str, Any]) -> memoryview:
        if number != 0 or self._binary is None:
            names = ", ".join(buffer.get("extensions", {}))[:80]
            raise MeshError(f"buffer {number} has neither a URI nor bytes in this file"
                            + (f" ({names} is not read: export it without)" if names else ""))
        return self._binary

    def _fetch(self, number: int, address: str, size: int) -> memoryview:
        data = _DATA.match(address)
        if data is not None:
            rest = address[data.end():]
            try:
                return memoryview(base64.b64decode(unquote_to_bytes(rest)) if data[1] else unquote_to_bytes(rest))
            except binascii.Error as error:
                raise MeshError(f"the embedded bytes of buffer {number} are not base64: {error}") from None
        self._check_address(number, address)
        try:
            path = self._path(number, address)
            with path.open("rb") as file:
                return memoryview(file.read(min(size, path.stat().st_size)))
        except OSError as error:
            raise MeshError(f"buffer {number} is in the file {address[:80]!r}, which cannot be read: "
                            f"{error.strerror}") from None

    def _check_address(self, number: int, address: str) -> None:
        """Raise MeshError if the text of a relative address leaves the folder of the document."""
        name = unquote(address)
        if _SCHEME.match(name) or name.startswith("/") or ".." in PurePosixPath(name).parts or {"\\", "\0"} & set(name):
            raise MeshError(f"buffer {number} is at {address[:80]!r}: only files in the folder of the mesh are read")
        if self._folder is None:
            raise MeshError(f"buffer {number} is in another file, {address[:80]!r}: decompress the mesh beside it")

    def _path(self, number: int, address: str) -> Path:
        """The file of a relative address.  Raises MeshError if a link leaves the folder of the document."""
        folder = os.path.realpath(self._folder)
        path = Path(os.path.realpath(os.path.join(folder, unquote(address))))
        if not path.is_relative_to(folder):
            raise MeshError(f"buffer {number} is at {address[:80]!r}, a link out of the folder of the mesh")
        if not path.is_file():
            raise MeshError(f"buffer {number} is in the file {address[:80]!r}, which does not exist")
        return path


def whole(value: Any, name: str) -> int:
    """A non-negative integer of a document.  Raises MeshError for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise MeshError(f"its JSON has {name} {str(value)[:40]!r}, expected a whole number of 0 or more")
    return value
