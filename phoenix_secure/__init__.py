"""Federated diffusion models whose data owners keep their images to themselves."""

from pathlib import Path

from phoenix_secure.own_packages import OwnPackages

__all__ = ["__version__"]

__version__ = "0.1.0"

OwnPackages(Path(__file__).resolve().parents[1]).install()
