"""The server tower as one file: its code and its packages, made for one kind of machine, the same bytes every time."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import llmhost
from llmhost.bootstrap import packages, remote_look, wheels
from llmhost.bootstrap.machine import Machine
from llmhost.bootstrap.platforms import Platform, runs_on
from llmhost.core.errors import LlmhostError
from llmhost.core.progress import Progress
from llmhost.core.templates import template

# The packages of llmhost that run on a node; the operator's have no business there.
OWN = ("core", "supervisor", "node", "messages", "cache", "backends", "proxy")
KEPT_BUNDLES = 6
COMPRESSION = 6
NAME_LENGTH = 16
PHASE = "bundle"
MIB = 1024 * 1024

Content = Path | bytes
Entry = tuple[str, Content]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A `.tar.gz` with `lib/`. `sha256` and `size` (bytes) are the file's; `unpacked` is the sum of what is in it, in bytes."""

    file: Path
    sha256: str
    size: int
    unpacked: int

    @property
    def name(self) -> str:
        """What the release is called on the node."""
        return self.sha256[:NAME_LENGTH]


def build(machine: Machine, cache: Path, progress: Progress, lock_text: str | None = None) -> Bundle:
    """The bundle for this machine, from the cache when nothing changed.

    For a machine of our own kind the packages are those installed here; else pip fetches those of the lock file (`lock_text` None = the
    project's). Raises LlmhostError (`package_missing`, `no_pip`, `unsupported_platform`, `packages_not_found`, `cache_unwritable`) and
    Unavailable (`index_unreachable`).
    """
    own = list(own_files())
    alike = is_alike(machine)
    lock = "" if alike else (template(wheels.LOCK) if lock_text is None else lock_text)
    kind = "" if alike else f"{machine.abi_tag} {machine.platform}"
    file = cache / f"{_fingerprint(own, kind, lock)}.tar.gz"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _make(file, own, machine, lock, alike, progress)
            _prune(cache, file)
        os.utime(file)
    except OSError as error:
        raise _unwritable(cache, error) from error
    return describe(file)


def is_alike(machine: Machine) -> bool:
    """Whether what is installed here also runs there: same Python minor, same system, and a C library that is new enough."""
    if machine.abi_tag != remote_look.abi_tag():
        return False
    here, there = Platform.parse(remote_look.platform_name()), Platform.parse(machine.platform)
    return here.like(there) and all(runs_on(packages.tags_of(one), here, there) for one in packages.closure())


def own_files() -> Iterator[Entry]:
    """llmhost's own files that go along, as `(path in the bundle, file here)`."""
    root = Path(llmhost.__file__).parent
    yield "llmhost/__init__.py", root / "__init__.py"
    for package in OWN:
        for path in sorted((root / package).rglob("*.py")):
            yield f"llmhost/{path.relative_to(root).as_posix()}", path


def installed_files() -> Iterator[Entry]:
    """The files of the packages that are installed here."""
    for distribution in packages.closure():
        yield from packages.files_of(distribution)


def _fingerprint(own: Iterable[Entry], kind: str, lock: str) -> str:
    """Of all that decides what is in the bundle: packages by name and version, our own files by content."""
    digest = hashlib.sha256(f"{kind}\0{lock}\0{COMPRESSION}\0".encode())
    if not lock:
        for one in packages.closure():
            digest.update(f"{one.name} {one.version} {packages.tags_of(one)}\0".encode())
    for name, content in own:
        digest.update(name.encode() + b"\0" + hashlib.sha256(_bytes(content)).digest())
    return digest.hexdigest()[:NAME_LENGTH]


def _make(file: Path, own: list[Entry], machine: Machine, lock: str, alike: bool, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".making-") as work:
        if alike:
            progress.phase(PHASE, "packing the server for the node")
            theirs = list(installed_files())
        else:
            progress.phase(
                PHASE, f"fetching the server's packages for Python {machine.python_version} on {machine.platform}"
            )
            fetched = wheels.fetch(machine, lock, Path(work))
            progress.phase(PHASE, "packing the server for the node")
            theirs = [entry for wheel in fetched for entry in wheels.files_of(wheel)]
        draft = Path(work) / "bundle"
        write_archive(draft, [*own, *theirs])
        os.replace(draft, file)


def write_archive(file: Path, entries: Iterable[Entry]) -> None:
    """A `.tar.gz` with the entries under `lib/`: sorted, owned by nobody, without times, so that equal content gives equal bytes."""
    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in sorted(dict(entries).items()):
            data = _bytes(content)
            info = tarfile.TarInfo(f"lib/{name}")
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    # A machine that loses its power must not find half a file under its final name.
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def describe(file: Path) -> Bundle:
    """What a file that `write_archive` made is."""
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    with file.open("rb") as data:
        data.seek(-4, os.SEEK_END)
        unpacked = int.from_bytes(data.read(4), "little")  # ISIZE of the gzip trailer (RFC 1952)
    return Bundle(file, digest, file.stat().st_size, unpacked)


def _prune(cache: Path, newest: Path) -> None:
    """Every change to the code makes a bundle: keep the last few."""
    old = sorted(cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in old[KEPT_BUNDLES:]:
        if path != newest:
            path.unlink(missing_ok=True)


def _unwritable(cache: Path, error: OSError) -> LlmhostError:
    return LlmhostError(
        f"cannot make the bundle in {cache}: {error.strerror or error}.",
        hint="Free disk space, or point XDG_CACHE_HOME to a folder of your own.",
        code="cache_unwritable",
    )


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_CACHE_HOME/llmhost/bundles`."""
    env = os.environ if environ is None else environ
    base = env.get("XDG_CACHE_HOME") or ""
    home = Path(env.get("HOME") or Path.home())
    return (Path(base) if base.startswith("/") else home / ".cache") / "llmhost" / "bundles"
