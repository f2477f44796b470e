"""Memory of a server under a flood: oversize replies of registered sites, and idle strangers.

    python benchmarks/flood.py                        # half a minute of it
    python benchmarks/flood.py --seconds 10 --json
    python benchmarks/flood.py --stock                # Flower's own SuperLink, with no quota

A real SuperLink and a real Fleet proxy with TLS and client certificates, each a process of its own.
Registered sites answer every request with ``--mib`` MiB of noise where 300 bytes are allowed, as
fast as they can, and list objects that do not exist; strangers hold thousands of silent
connections. One honest site answers as it should: its answers are counted. What is printed is how
much each process grew over what it held before the flood.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from phoenix_secure.federation.deployment.commands import fleet_proxy, superlink
from phoenix_secure.federation.deployment.initialise import Deployment, initialise
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.exchange import Reply
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.engines.flower_address import quiet_flower
from phoenix_secure.federation.engines.flower_api import control_client, register_node
from phoenix_secure.federation.engines.supernode import (
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    CertifiedClient,
)
from phoenix_secure.federation.engines.wire import PART_BYTES, pack

LIMIT = 300
HONEST = "honest"
_STOCK = (
    "from phoenix_secure.processes import die_with_parent; die_with_parent(); "
    "from flwr.superlink.cli.flower_superlink import flower_superlink; flower_superlink()"
)


class RawSite:
    """A registered node that makes the Fleet calls itself, through the proxy."""

    def __init__(self, folder: SiteFolder, address: str) -> None:
        key = load_ssh_private_key(folder.node_key.read_bytes(), None)
        os.environ[CERTIFICATE_VARIABLE] = str(folder.door_certificate)
        os.environ[KEY_VARIABLE] = str(folder.door_key)
        self.client = CertifiedClient.from_server_address(
            address,
            False,
            str(folder.ca_certificate),
            [
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )
        public = public_key_to_bytes(key.public_key())
        while True:
            with suppress(httpx.HTTPError):
                request = ActivateNodeRequest(public_key=public, heartbeat_interval=300)
                self.node = Node(node_id=self.client.ActivateNode(request).node_id)
                return
            time.sleep(0.5)

    def request(self) -> Message | None:
        """The next request; its content is not needed."""
        found = self.client.PullMessages(PullMessagesRequest(node=self.node))
        if not found.messages_list:
            return None
        message = message_from_proto(found.messages_list[0])
        confirm = ConfirmMessageReceivedRequest(
            node=self.node,
            run_id=message.metadata.run_id,
            message_object_id=message.metadata.message_id,
        )
        self.client.ConfirmMessageReceived(confirm)
        return message

    def send(self, reply: Message) -> None:
        """Announce and push until refused."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            tree = get_object_tree(reply)
            objects = get_all_nested_objects(reply)
            session = self.announce(reply, tree)
            for object_id, found in objects.items():
                push = PushObjectRequest(
                    node=self.node,
                    run_id=reply.metadata.run_id,
                    session_id=session,
                    object_id=object_id,
                    object_content=found.deflate(),
                )
                if not self.client.PushObject(push).stored:
                    return

    def announce(self, reply: Message, tree: ObjectTree) -> str:
        """Say what an answer consists of; the name of the upload."""
        bare = Message(RecordDict(), metadata=reply.metadata)
        request = PushMessagesRequest(
            node=self.node,
            messages_list=[message_to_proto(bare)],
            message_object_trees=[tree],
        )
        return str(self.client.PushMessages(request).session_id)


def answer_honestly(folder: Path, address: str) -> None:
    site = RawSite(SiteFolder(folder), address)
    while True:
        with suppress(httpx.HTTPError):
            request = site.request()
            if request is not None:
                site.send(Message(pack("announce", bytes(LIMIT)), reply_to=request))
        time.sleep(0.05)


def answer_with_too_much(folder: Path, address: str, mib: int) -> None:
    site, noise = RawSite(SiteFolder(folder), address), os.urandom(PART_BYTES - 100)
    lists = ObjectTree()
    for number in range(10_000):
        lists.children.append(ObjectTree(object_id=f"{number:064x}"))
    while True:
        with suppress(httpx.HTTPError):
            request = site.request()
            if request is None:
                continue
            parts = {
                f"phoenix.{number}": ConfigRecord({"bytes": bytes([number]) + noise})
                for number in range(max(1, mib << 20 // PART_BYTES))
            }
            for content in (RecordDict(dict([next(iter(parts.items()))])), RecordDict(parts)):
                reply = Message(content, reply_to=request)
                site.send(reply)
                lists.object_id = reply.metadata.message_id
                site.announce(reply, lists)


def hold_connections(address: str, count: int) -> None:
    """Connect and say nothing; whoever is thrown out comes back."""
    host, _, port = address.rpartition(":")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held: list[socket.socket] = []
    while True:
        with suppress(OSError):
            held.append(socket.create_connection((host, int(port)), timeout=5))
        if len(held) >= count:
            held.pop(0).close()


def memory_of(processes: dict[str, psutil.Process]) -> dict[str, int]:
    return {name: process.memory_info().rss for name, process in processes.items()}


def measure(options: argparse.Namespace) -> dict[str, object]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "federation"
        hostile = tuple(f"hostile-{number}" for number in range(options.hostile))
        ports = free_ports(2)
        initialise(
            root,
            Deployment(
                federation="flood", sites=(HONEST, *hostile), port=ports[0], superlink_port=ports[1]
            ),
        )
        server = ServerFolder(root / "server")
        settings, roster = server.settings(), server.roster()
        children = start_server(stack, server, stock=options.stock)
        nodes = server.nodes(roster)
        where = server.superlink(settings)
        while True:
            with suppress(httpx.HTTPError), control_client(where) as client:
                for site, key in nodes.items():
                    register_node(client, key=key, name=site)
                break
            time.sleep(0.3)
        jobs = [(answer_honestly, (root / "sites" / HONEST, settings.address))]
        jobs += [
            (answer_with_too_much, (root / "sites" / site, settings.address, options.mib))
            for site in hostile
        ]
        for target, arguments in jobs:
            process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
        engine = FlowerEngine(where, nodes=nodes, session="flood", gather_s=60)
        stack.callback(engine.close)
        processes = {name: psutil.Process(pid) for name, pid in children.items()}
        processes["rounds"] = psutil.Process()
        engine.exchange("warm", {HONEST: b""}, deadline_s=30)
        before = memory_of(processes)
        strangers = multiprocessing.get_context("spawn").Process(
            target=hold_connections, args=(settings.address, options.strangers)
        )
        strangers.start()
        stack.callback(strangers.join)
        stack.callback(strangers.kill)
        return {
            "stock": options.stock,
            "hostile_sites": options.hostile,
            "strangers": options.strangers,
            "seconds": options.seconds,
            "before_mib": {name: round(size / 2**20) for name, size in before.items()},
            **flood(engine, processes, before, sites=(HONEST, *hostile), seconds=options.seconds),
        }


def flood(
    engine: FlowerEngine,
    processes: dict[str, psutil.Process],
    before: dict[str, int],
    *,
    sites: tuple[str, ...],
    seconds: float,
) -> dict[str, object]:
    peak, done = dict(before), threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for name, size in memory_of(processes).items():
                peak[name] = max(peak[name], size)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    asked = answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answers = engine.exchange(
            "announce",
            dict.fromkeys(sites, b"offer"),
            deadline_s=10,
            quorum=1,
            grace_s=1,
            max_reply_bytes=LIMIT,
        )
        asked += 1
        answered += isinstance(answers[HONEST], Reply)
    done.set()
    watcher.join()
    return {
        "grown_mib": {name: round((peak[name] - before[name]) / 2**20) for name in before},
        "honest_answers": answered,
        "stages": asked,
    }


def start_server(stack: ExitStack, server: ServerFolder, *, stock: bool) -> dict[str, int]:
    """The server's two processes; their ids."""
    import subprocess
    from dataclasses import replace

    settings = server.settings()
    (server.path / "flower").mkdir(exist_ok=True)
    environment = quiet_flower() | {"FLWR_HOME": str(server.path / "flower")}
    first = superlink(
        server.files,
        port=settings.superlink_port,
        environment=environment,
        log=server.path / "superlink.log",
    )
    door = fleet_proxy(
        replace(server.files, asks_clients=settings.client_certificates),
        host=settings.listen,
        port=settings.port,
        superlink_port=settings.superlink_port,
        environment=environment,
        log=server.path / "proxy.log",
    )
    found = {}
    for child in (first, door):
        command = list(child.command)
        if stock and child is first:
            command[1:3] = ["-c", _STOCK]
        log = stack.enter_context(child.log.open("wb"))
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            command, env=child.environment, stdout=log, stderr=log
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        found[child.name] = process.pid
    return found


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--hostile", type=int, default=3, help="sites that answer with too much")
    parser.add_argument("--mib", type=int, default=64, help="MiB in the place of 300 bytes")
    parser.add_argument("--strangers", type=int, default=2000, help="silent connections")
    parser.add_argument("--stock", action="store_true", help="Flower's own SuperLink")
    parser.add_argument("--json", action="store_true")
    found = measure(parser.parse_args())
    if "--json" in sys.argv:
        print(json.dumps(found))
        return
    print(f"{'process':<12} {'before MiB':>10} {'grew by MiB':>12}")
    for name, size in found["before_mib"].items():
        print(f"{name:<12} {size:>10} {found['grown_mib'][name]:>12}")
    print(f"the honest site answered {found['honest_answers']} of {found['stages']} stages")


if __name__ == "__main__":
    main()
