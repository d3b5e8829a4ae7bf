"""Files that are stored compressed with xz and unpacked when they are loaded: `model.onnx.xz` for `model.onnx`.

Weights that share few values take little storage this way, whatever the runtime's format is.
"""

import lzma
import shutil
from pathlib import Path

from protos.errors import IntegrityError
from protos.manifest import PACKED, File

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 2, "pb": 2}]
"""Literals by their place among four bytes: these are float32 numbers. Three times faster on them than the defaults."""
_MEMORY = 64 << 20
_CHUNK = 1 << 20


def pack(folder: Path, pattern: str = "*") -> None:
    """Compresses every file below `folder` whose name matches, unless it is compressed already."""
    for path in [p for p in folder.rglob(pattern) if p.is_file() and not p.name.endswith(PACKED)]:
        packed = path.with_name(path.name + PACKED)
        with path.open("rb") as source, lzma.open(packed, "wb", filters=_FILTERS) as target:
            shutil.copyfileobj(source, target, _CHUNK)
        path.unlink()


def unpacked_bytes(path: Path) -> int | None:
    """Returns the size after unpacking; None for a file that is not packed."""
    if not path.name.endswith(PACKED):
        return None
    with lzma.open(path) as stream:
        return sum(len(chunk) for chunk in iter(lambda: stream.read(_CHUNK), b""))


def unpack(folder: Path, files: tuple[File, ...], target: Path) -> None:
    """Puts the files of an artifact into the folder `target`: packed ones unpacked, others as links.

    Raises `IntegrityError` where a file is damaged, or unpacks to another size than its manifest says: not a
    byte more than that is written.
    """
    for file in files:
        path = target / file.loaded_as
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.unpacked_bytes is None:
            path.symlink_to((folder / file.path).resolve())
        elif not _unpack(folder / file.path, path, file.unpacked_bytes):
            raise IntegrityError(f"file '{file.path}' does not unpack to {file.unpacked_bytes} bytes")


def _unpack(packed: Path, target: Path, size: int) -> bool:
    """Unpacks a file; tells whether it was whole and of that size."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        with packed.open("rb") as source, target.open("wb") as unpacked:
            while not unpacker.eof and unpacked.tell() <= size:
                given = source.read(_CHUNK) if unpacker.needs_input else b""
                if not given and unpacker.needs_input:
                    return False
                unpacked.write(unpacker.decompress(given, min(_CHUNK, size - unpacked.tell() + 1)))
            return unpacker.eof and unpacked.tell() == size
    except lzma.LZMAError:
        return False
