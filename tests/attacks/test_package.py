from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil

import pytest

import attacks

MODULES = [
    info.name for info in pkgutil.walk_packages(attacks.__path__, "attacks.") if not info.ispkg
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_no_module_draws_from_global_randomness_or_unpickles(name: str) -> None:
    module = importlib.import_module(name)
    with open(module.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "random"):
            assert node.attr in ("Generator", "default_rng"), ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.random.default_rng":
            assert node.args, "a generator without a seed"
        if isinstance(node, ast.Import):
            assert not {"pickle", "torch"} & {alias.name for alias in node.names}


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        if callable(value) and getattr(value, "__module__", "").startswith("attacks"):
            assert value.__doc__, public
