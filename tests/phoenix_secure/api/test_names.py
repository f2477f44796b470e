"""``import phoenix_secure as ps``: quick, and every name is what its stub says."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import phoenix_secure as ps


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, json, phoenix_secure; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"torch", "numpy", "flwr", "pydantic", "scipy", "diffusers", "rich"}


def test_the_stub_names_what_the_package_offers() -> None:
    """Type checkers read the stub, Python reads the package: both must say the same."""
    stub = ast.parse(Path(ps.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    places = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*places, "__version__"} == set(ps.__all__)
    for name, module in places.items():
        assert module is not None
        found = getattr(importlib.import_module(module), str(name))
        if name == "audit":  # a package and a function: see test_audit_is_both
            continue
        assert getattr(ps, str(name)) is found


def test_audit_is_both_a_package_and_a_function(tmp_path: Path) -> None:
    """Whichever of both names was imported first."""
    package = importlib.import_module("phoenix_secure.audit")
    function = importlib.import_module("phoenix_secure.api.attacks").audit
    for audit in (package, function, ps.audit):
        with pytest.raises(ps.PhoenixError, match="nowhere"):
            audit(tmp_path / "nowhere")


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(ps, "trian")
    assert "run" in dir(ps)
