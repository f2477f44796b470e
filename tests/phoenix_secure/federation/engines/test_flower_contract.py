"""The internals of Flower that we lean on: a version that changes them fails here first."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import subprocess
import sys
import threading
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.config import get_fab_config
from flwr.server.superlink.linkstate import linkstate_factory
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid
from flwr.superlink.routers.fleet import router as fleet_router
from flwr.supernode import start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.fleet_http_connection import http_request_response
from flwr.supernode.runtime import run_clientapp

import phoenix_secure
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.party_keys import new_node_key, node_line
from phoenix_secure.federation.engines.bundle import bundle_hash, make_bundle
from phoenix_secure.federation.engines.flower_address import (
    FlowerAddress,
    check_flower_version,
    node_key_bytes,
    quiet_flower,
)
from phoenix_secure.federation.engines.flower_site import _touched, _wait
from phoenix_secure.federation.engines.prompt_pulls import (
    FIRST_PAUSE_S,
    pull_promptly,
    use_prompt_pulls,
)
from phoenix_secure.federation.engines.superlink import BoundedLinkState
from phoenix_secure.federation.engines.supernode import CertifiedClient, _pull_and_wake


@pytest.mark.parametrize("version", ["1.40.0", "1.42.0", "2.0.0", "1.41.0rc1"])
def test_other_versions_are_refused_with_the_fix(version) -> None:
    with pytest.raises(ConfigError, match=r"flwr .* is installed.*pip install"):
        check_flower_version(version)


def test_installed_version_is_one_that_was_tried() -> None:
    check_flower_version()


def imported_from_flower() -> set[tuple[str, str]]:
    """(module, name) of every import from Flower in our own code."""
    found: set[tuple[str, str]] = set()
    for path in Path(phoenix_secure.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "flwr" in text else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flwr"):
                found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def test_every_name_that_we_import_from_flower_is_where_it_was() -> None:
    """All that moved or went, in one list: what a new version costs."""
    names = imported_from_flower()
    assert len(names) > 40
    moved = []
    for module, name in sorted(names):
        try:
            found = importlib.import_module(module)
        except ImportError:
            moved.append(module)
            continue
        if not hasattr(found, name) and importlib.util.find_spec(f"{module}.{name}") is None:
            moved.append(f"{module}.{name}")
    assert moved == []


def test_supernode_loop_uses_time_only_to_sleep() -> None:
    """The launcher puts a stand-in with ``sleep`` alone in the place of the module."""
    tree = ast.parse(inspect.getsource(start_client_internal))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
    }
    assert used == {"sleep"}
    pauses = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    }
    assert pauses == {3, 0.5}  # between looks at the server, and for an answer of this process


def test_content_on_its_way_is_fetched_where_we_stand_in() -> None:
    assert "obj_contents = pull_objects(\n                obj_ids_to_pull,\n" in inspect.getsource(
        start_client_internal
    )
    assert "message = pull_and_inflate_object_from_tree(\n" in inspect.getsource(
        run_clientapp.pull_task_input
    )
    for name in ("pull_objects", "pull_and_inflate_object_from_tree"):
        parameters = inspect.signature(getattr(inflatable_utils, name)).parameters
        assert FIRST_PAUSE_S < parameters["initial_backoff"].default == 1
    with pytest.raises(KeyError):
        use_prompt_pulls(run_clientapp, "pull_objects")


def test_content_that_is_late_is_asked_for_until_it_is_there() -> None:
    missing = {"a": 0, "b": 3}

    def fetch(object_id: str) -> bytes:
        missing[object_id] -= 1
        if missing[object_id] >= 0:
            raise inflatable_utils.ObjectUnavailableError(object_id)
        return object_id.encode()

    assert pull_promptly(list(missing), fetch) == {"a": b"a", "b": b"b"}
    assert missing == {"a": -1, "b": -1}


def test_supernode_wakes_the_worker_when_a_message_is_there(tmp_path) -> None:
    assert "run_id = _pull_and_store_message(\n                state=state," in inspect.getsource(
        start_client_internal.start_client_internal
    )
    wake = tmp_path / "wake"
    assert _pull_and_wake(lambda *, state: None, wake, state=1) is None
    assert not wake.exists()
    assert _pull_and_wake(lambda *, state: state, wake, state=7) == 7
    assert wake.exists()
    assert _pull_and_wake(lambda *, state: 0, tmp_path / "no" / "folder", state=1) == 0


def test_worker_waits_until_it_is_woken(tmp_path) -> None:
    wake, stop = tmp_path / "wake", threading.Event()
    seen = _touched(wake)
    assert seen == 0
    threading.Timer(0.05, wake.touch).start()
    _wait(stop, wake, seen=seen, poll_s=60)  # would be a minute without
    assert _touched(wake) > 0


def test_supernode_opens_its_connection_where_we_stand_in() -> None:
    assert "with http_request_response(\n        address,\n        insecure," in inspect.getsource(
        start_client_internal._init_connection
    )
    names = list(inspect.signature(http_request_response).parameters)
    assert names == [
        "server_address",
        "insecure",
        "root_certificates",
        "authentication_keys",
        "max_retries",
        "max_wait_time",
    ]


def test_superlink_makes_its_state_and_answers_nodes_where_we_stand_in() -> None:
    source = inspect.getsource(linkstate_factory.LinkStateFactory.state)
    assert "InMemoryLinkState(\n                    self.federation_manager, object_store" in source
    assert "fleet_handlers.push_messages(request=request, state=state)" in inspect.getsource(
        fleet_router.fleet_push_messages
    )
    for name in ("store_message_and_object_tree", "store_object", "get_message_res"):
        ours = inspect.signature(getattr(BoundedLinkState, name)).parameters
        theirs = inspect.signature(getattr(InMemoryLinkState, name)).parameters
        assert list(ours) == list(theirs)


def test_supernode_makes_its_client_where_we_stand_in() -> None:
    assert "with FleetHttpClient.from_server_address(" in inspect.getsource(http_request_response)
    ours, theirs = (
        list(inspect.signature(kind.from_server_address).parameters)
        for kind in (CertifiedClient, FleetHttpClient)
    )
    assert ours == theirs


def test_worker_calls_are_as_we_call_them() -> None:
    assert list(inspect.signature(run_clientapp.pull_task_input).parameters) == ["client"]
    assert list(inspect.signature(run_clientapp.push_message).parameters) == [
        "client",
        "message",
        "context",
    ]
    assert list(inspect.signature(run_clientapp.push_task_output).parameters) == [
        "client",
        "context",
        "sub_status",
        "details",
    ]
    assert (TaskType.CLIENT_APP, TaskType.SERVER_APP) == ("flwr-clientapp", "flwr-serverapp")
    assert NodeStatus.ONLINE == "online"
    for call in ("AcquireTask", "PullTaskInput", "PushTaskOutput", "SendTaskHeartbeat"):
        assert hasattr(RuntimeHttpClient, call)


def test_grid_keeps_its_client_where_we_put_ours() -> None:
    """Ours never sends SIGINT to its own process when a token is refused."""
    grid = HttpGrid("127.0.0.1:1", insecure=True, token="x")  # noqa: S106
    assert grid._client is None
    grid._client = marker = object()
    assert grid._runtime_client is marker


@pytest.mark.long
def test_importing_the_engine_never_imports_a_bundle_installer() -> None:
    code = (
        "import sys, phoenix_secure.federation.engines.client_app\n"
        "import phoenix_secure.federation.engines.flower\n"
        "bad = [m for m in sys.modules if m in ('ray', 'flwr.cli.install')]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=quiet_flower())


def test_bundle_is_the_same_bytes_each_time_and_acceptable_to_flower() -> None:
    bundle = make_bundle()
    assert bundle == make_bundle()
    assert bundle_hash(bundle) == hashlib.sha256(bundle).hexdigest()
    assert get_fab_config(bundle)["tool"]["flwr"]["app"]["publisher"] == "phoenix-secure"


def test_bundle_holds_no_code_but_a_refusal(tmp_path) -> None:
    with zipfile.ZipFile(BytesIO(make_bundle())) as archive:
        assert archive.namelist() == ["pyproject.toml", "refusal.py"]
        archive.extractall(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", "import refusal"], cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode != 0
    assert b"site start" in ran.stderr


def test_node_keys_are_listed_as_flower_does_and_other_kinds_are_refused() -> None:
    key = node_line(new_node_key().public_key())
    listed = public_key_to_bytes(load_ssh_public_key(key))
    assert node_key_bytes(key) == listed
    for bad in (b"", b"ssh-rsa AAAA", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + b"A" * 43):
        with pytest.raises(ConfigError, match="public key"):
            node_key_bytes(bad)


def test_secrets_do_not_show_in_a_repr() -> None:
    assert "hush" not in repr(FlowerAddress(address="x:1", secret=b"hush"))


def test_environment_for_flower_turns_its_telemetry_off() -> None:
    quiet = quiet_flower({"FLWR_TELEMETRY_ENABLED": "1", "KEEP": "me"})
    assert quiet["FLWR_TELEMETRY_ENABLED"] == "0"
    assert quiet["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert quiet["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert quiet["KEEP"] == "me"
