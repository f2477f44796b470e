"""Federated diffusion models whose data owners keep their images to themselves."""

__all__ = ["__version__"]

__version__ = "0.1.0"
