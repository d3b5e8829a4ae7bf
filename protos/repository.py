"""The repository of built variants, `<root>/<model>/<variant>/`, as its readers and its one writer see it.

    <root>/<model>/golden.npz              a few real inputs and the FP32 outputs
    <root>/<model>/test.npz                the test split: images, the truth, FP32's answers; may be absent
    <root>/<model>/default                 the variant that an empty version means; `fp32-pytorch` without it
    <root>/<model>/<variant>/manifest.json
    <root>/<model>/<variant>/golden.npz    its own golden set, where the manifest says so
    <root>/<model>/<variant>/<files>       some of them compressed, see `protos.packing`

Folders whose name starts with a dot are never read. A half-written or altered variant is listed as broken, with its
reason; it never vanishes. Hashes guard against damage, not malice: a compiled artifact is native code, so serve only
repositories that you trust.
"""

import hashlib
import re
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protos.errors import IntegrityError, ManifestError, NotFoundError, VariantError
from protos.manifest import File, TaskName, Variant, from_json, to_json
from protos.packing import unpacked_bytes
from protos.support import atomic
from protos.tasks.table import TASKS
from protos.tasks.task import Array, Arrays, Rows

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
TEST = "test.npz"
DEFAULT = "default"
FIRST_DEFAULT = "fp32-pytorch"
EVERYTHING: frozenset[str] = frozenset()
"""In the place of names that choose: they choose nothing, so nothing is left out."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Fingerprint = tuple[int, ...]
"""Identity, time and size of a manifest's file and of the model's golden set: another publication has another."""


@dataclass(frozen=True)
class Entry:
    """One folder of the repository: a variant, or the reason why it is broken."""

    model: str
    name: str
    folder: Path
    variant: Variant | None
    broken: VariantError | None
    fingerprint: Fingerprint | None = None
    """Its fingerprint, taken before the manifest was read; None where there is no manifest."""


@dataclass(frozen=True)
class Snapshot:
    """What tells whether a model has changed: its default, and the fingerprint of each variant by name."""

    default: str
    fingerprints: dict[str, Fingerprint | None]


@dataclass(frozen=True)
class GoldenSet:
    """A few real inputs (N, ...) by name, and the outputs (N, ...) by name that FP32 PyTorch gave for them."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class EvaluationSet:
    """The test split: images, what is true of them, and what FP32 PyTorch answered, in the arrays of the task."""

    task: TaskName
    images: Array
    """RGB pixels uint8 (N, H, W, 3), or JPEG and PNG files (N,), each `bytes`."""
    truth: Arrays
    reference: Arrays

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Rows) -> "EvaluationSet":
        """Returns the images at `rows`."""
        task = TASKS[self.task]
        parts = (task.take(arrays, rows) for arrays in (self.truth, self.reference))
        return EvaluationSet(self.task, self.images[rows], *parts)


def check_name(name: str) -> str:
    """Returns `name` if a folder can have it, else raises `ValueError`."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"got '{name}', expected letters, digits, '.', '_' or '-', the first a letter or digit")
    return name


def is_named(chosen: Set[str], model: str, variant: str) -> bool:
    """Returns whether `chosen`, of MODEL or MODEL/VARIANT each, names a variant."""
    return not chosen.isdisjoint((model, f"{model}/{variant}"))


def scan(root: Path, only: Set[str] = EVERYTHING) -> list[Entry]:
    """Reads every variant's manifest, by model and name, or of those that `only` names as `is_named` has it.

    Raises `FileNotFoundError` where `root` is not a folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"repository '{root}' is not a folder")
    return [read_entry(folder) for model in _folders(root) for folder in _variants(model, only)]


def scan_model(root: Path, model: str, only: Set[str] = EVERYTHING) -> list[Entry]:
    """Returns the variants of one model, as `scan` lists them; `model` may be anything, as it never becomes a path."""
    return [read_entry(found) for folder in _folders(root) if folder.name == model for found in _variants(folder, only)]


def snapshot(root: Path, only: Set[str] = EVERYTHING) -> dict[str, Snapshot]:
    """Returns a snapshot of each model that `scan` would find a variant of, by name; reads no manifest.

    Raises `FileNotFoundError` as `scan` does.
    """
    found = {}
    for model in _folders(root):
        if fingerprints := {variant.name: fingerprint(variant) for variant in _variants(model, only)}:
            found[model.name] = Snapshot(default_variant(root, model.name), fingerprints)
    return found


def fingerprint(folder: Path) -> Fingerprint | None:
    """Returns the fingerprint of a variant, or None where there is no manifest."""
    manifest = _identity(folder / MANIFEST)
    return manifest + _identity(folder.parent / GOLDEN) if manifest else None


def read_entry(folder: Path) -> Entry:
    """Reads one variant's folder, as `scan` lists it."""
    model, name, before = folder.parent.name, folder.name, fingerprint(folder)
    try:
        variant = from_json((folder / MANIFEST).read_text())
        if (variant.model, variant.variant) != (model, name):
            raise ManifestError(f"manifest is of '{variant.model}/{variant.variant}', expected '{model}/{name}'")
        if variant.golden is None:
            raise ManifestError("manifest: 'golden' is missing")
        for file in variant.files:
            if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
                raise ManifestError(f"file '{file.path}' lies outside of the variant's folder")
        return Entry(model, name, folder, variant, None, before)
    except FileNotFoundError:
        broken: VariantError = ManifestError(f"'{MANIFEST}' is missing")
    except VariantError as error:
        broken = error
    except (OSError, UnicodeDecodeError) as error:
        broken = ManifestError(f"'{MANIFEST}' cannot be read: {_why(error)}")
        broken.__cause__ = error
    return Entry(model, name, folder, None, broken, before)


def verify(entry: Entry) -> Variant:
    """Returns the entry's variant once each of its files has the size and hash of its manifest.

    Raises the entry's own `VariantError`, or `IntegrityError`.
    """
    if entry.variant is None:
        assert entry.broken is not None
        raise entry.broken
    for file in entry.variant.files:
        path = entry.folder / file.path
        if not path.is_file():
            raise IntegrityError(f"file '{file.path}' is missing")
        if (size := path.stat().st_size) != file.bytes:
            raise IntegrityError(f"file '{file.path}' has {size} bytes, expected {file.bytes}")
        if (found := sha256(path)) != file.sha256:
            raise IntegrityError(f"file '{file.path}' was altered: sha256 {found}, expected {file.sha256}")
    return entry.variant


def describe_files(folder: Path) -> tuple[File, ...]:
    """Returns every file below `folder` but the manifest, with its size and hash, by path."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return tuple(File(p.relative_to(folder).as_posix(), sha256(p), p.stat().st_size, unpacked_bytes(p)) for p in paths)


def publish(root: Path, variant: Variant, artifact: Path, golden: GoldenSet | None = None) -> Path:
    """Copies the files of `variant` from the folder `artifact` to their place; returns the variant's folder.

    `golden` is its own golden set, where it has one.

    It appears whole or not at all (`atomic.new_folder`). Raises `IntegrityError` where `artifact` does not hold what
    the manifest says.
    """
    target = root / check_name(variant.model) / check_name(variant.variant)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_folder(target) as staging:
        for file in variant.files:
            copy = staging / file.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / file.path, copy)
        verify(Entry(variant.model, variant.variant, staging, variant, None))
        if golden is not None:
            _save_arrays(staging / GOLDEN, _golden_parts(golden))
        (staging / MANIFEST).write_text(to_json(variant))
    return target


def load_golden(root: Path, model: str, variant: Variant | None = None) -> GoldenSet:
    """Reads the golden set of a model, or of one of its variants, which may have its own.

    Raises `IntegrityError` where it is missing or not readable. No pickle is read.
    """
    own = variant is not None and variant.golden is not None and variant.golden.own
    arrays = _load_arrays(root, model, f"{variant.variant}/{GOLDEN}" if variant and own else GOLDEN)
    golden = GoldenSet(_part(arrays, "input"), _part(arrays, "output"))
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    if not golden.inputs or not golden.outputs or len(rows) != 1:
        raise IntegrityError(f"'{GOLDEN}' of model '{model}': got {sorted(arrays)}, expected inputs, outputs, as many")
    return golden


def save_golden(root: Path, model: str, golden: GoldenSet) -> None:
    """Writes the golden set of a model, atomically."""
    _save_arrays(root / check_name(model) / GOLDEN, _golden_parts(golden))


def _golden_parts(golden: GoldenSet) -> dict[str, Arrays]:
    return {"input": golden.inputs, "output": golden.outputs}


def load_evaluation_set(root: Path, model: str, task: TaskName) -> EvaluationSet:
    """Reads the test split of a model; `IntegrityError` where it is missing, not readable or no split of the task."""
    arrays, where = _load_arrays(root, model, TEST), f"'{TEST}' of model '{model}'"
    try:
        images, truth, reference = _images(arrays), _part(arrays, "truth"), _part(arrays, "reference")
        TASKS[task].check(truth, reference, len(images))
    except KeyError as error:
        raise IntegrityError(f"{where}: {error} is missing") from None
    except ValueError as error:
        raise IntegrityError(f"{where}: {error}") from None
    return EvaluationSet(task, images, truth, reference)


def save_evaluation_set(root: Path, model: str, test: EvaluationSet) -> None:
    """Writes the test split of a model, atomically."""
    images = {"pixels": test.images}
    if test.images.dtype == np.object_:
        sizes = np.array([len(file) for file in test.images], np.int64)
        images = {"files": np.frombuffer(b"".join(test.images), np.uint8), "bytes": sizes}
    _save_arrays(root / check_name(model) / TEST, {"images": images, "truth": test.truth, "reference": test.reference})


def drawn(images: int) -> NDArray[np.int64]:
    """Returns the order in which so many test images are evaluated: accuracy of fewer is that of the first in it."""
    return np.random.default_rng(0).permutation(images)


def default_variant(root: Path, model: str) -> str:
    """Returns the variant that an empty version means; a damaged file names one that does not exist."""
    path = root / check_name(model) / DEFAULT
    return path.read_text(errors="replace").strip() if path.is_file() else FIRST_DEFAULT


def promote(root: Path, model: str, variant: str) -> None:
    """Makes `variant` the model's default; `NotFoundError` where the repository has no such variant."""
    known = [entry.name for entry in scan(root) if entry.model == model]
    if variant not in known:
        raise NotFoundError(f"got variant '{variant}' of model '{model}', expected one of {known}")
    atomic.write_text(root / model / DEFAULT, variant + "\n")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_arrays(root: Path, model: str, file: str) -> dict[str, Array]:
    """Reads all arrays of one of a model's files; raises `IntegrityError`."""
    path = root / check_name(model) / file
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise IntegrityError(f"'{file}' of model '{model}' is missing") from None
    except Exception as error:  # a damaged zip fails in many ways
        raise IntegrityError(f"'{file}' of model '{model}' cannot be read: {_why(error)}") from error


def _save_arrays(path: Path, parts: Mapping[str, Arrays]) -> None:
    """Writes the arrays of each part under its name and theirs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
    with atomic.new_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **named)


def _part(arrays: Arrays, part: str) -> dict[str, Array]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _images(arrays: Arrays) -> Array:
    """Returns the images of a test split; raises `KeyError` without any, `ValueError` for what is none."""
    if "images.files" in arrays:
        ends, content = np.cumsum(arrays["images.bytes"]).tolist(), arrays["images.files"].tobytes()
        images: Array = np.empty(len(ends), np.object_)
        images[:] = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return images
    images = arrays["images.pixels"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ValueError(f"got images {images.dtype} {list(images.shape)}, expected uint8 (N, H, W, 3)")
    return images


def _identity(file: Path) -> Fingerprint:
    """Returns what is another once a file has been replaced; nothing where there is no such file."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and _NAME.fullmatch(p.name))


def _variants(model: Path, only: Set[str]) -> list[Path]:
    return [folder for folder in _folders(model) if not only or is_named(only, model.name, folder.name)]


def _why(error: Exception) -> str:
    """Says why in words that a client may read: no path, and no text of a library."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else "its contents are damaged"
