"""Host names, ports and proxies: refused or named before anything depends on them."""

from __future__ import annotations

import ipaddress
import socket
import threading
from pathlib import Path

import pytest
from cryptography import x509

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.hosts import (
    canonical_host,
    canonical_host_port,
    proxy_of,
    require_free_port,
)
from phoenix_secure.federation.deployment.initialise import Deployment, initialise
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.server_process import ServerProcess
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.flower_address import quiet_flower

SITES = tuple(f"site-{k}" for k in range(5))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("a b", "blanks"),
        ("a\nb", "blanks"),
        ("fl_server.example.org", "underscore"),
        ("fl.example.org:9443", "give the port apart"),
        ("https://fl.example.org", "host name alone"),
        ("fl.example.org/x", "host name alone"),
        ("me@fl.example.org", "host name alone"),
        ("[2001:db8::10]", "without brackets"),
        ("[::1]:9443", "without brackets"),
        ("fe80::1%eth0", "zone"),
        ("*.example.org", "pattern"),
        ("0.0.0.0", "no address that sites could reach"),  # noqa: S104 - refused
        ("::", "no address that sites could reach"),
        ("224.0.0.1", "no address that sites could reach"),
        ("255.255.255.255", "no address that sites could reach"),
        ("10.0.0.300", "no IPv4 address"),
        ("127.1", "no IPv4 address"),
        ("a..b", "Empty Label"),
        ("-a.example", "hyphen"),
        ("a." * 127 + "example", "host name"),
        ("x" * 64 + ".example", "too long"),
        ("fl!.example", "host name"),
        (":::", "neither a name"),
    ],
)
def test_what_no_certificate_could_name_is_refused_before_any_key(
    host: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        initialise(tmp_path / "net", Deployment(federation="net", sites=SITES, host=host))
    assert str(caught.value).startswith("--host ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("host", "address", "listen"),
    [
        ("münchen.example", "xn--mnchen-3ya.example:9443", "0.0.0.0"),  # noqa: S104
        ("straße.example", "xn--strae-oqa.example:9443", "0.0.0.0"),  # noqa: S104
        ("FL.Example.ORG.", "fl.example.org:9443", "0.0.0.0"),  # noqa: S104
        ("2001:DB8:0::10", "[2001:db8::10]:9443", "::"),
        ("::1", "[::1]:9443", "::1"),
        ("localhost", "localhost:9443", "127.0.0.1"),
        ("192.168.1.7", "192.168.1.7:9443", "0.0.0.0"),  # noqa: S104
    ],
)
def test_sites_are_sent_where_the_server_listens(
    host: str, address: str, listen: str, tmp_path: Path
) -> None:
    initialise(tmp_path / "net", Deployment(federation="net", sites=SITES, host=host))
    server = ServerFolder(tmp_path / "net" / "server").settings()
    assert (server.address, server.listen) == (address, listen)
    assert SiteFolder(tmp_path / "net" / "sites" / "site-0").settings().server == address
    certificate = tmp_path / "net" / "server" / "server.crt"
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    bare = address.rpartition(":")[0].strip("[]")
    listed = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    assert bare in [*listed, *names.get_values_for_type(x509.DNSName)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fl.example.org", "expected HOST:PORT"),
        ("fl.example.org:0", "from 1 to 65535"),
        ("fl.example.org:70000", "from 1 to 65535"),
        ("::1:9443", "into brackets"),
        ("[10.0.0.1]:9443", "brackets are for IPv6"),
        ("fl_server:9443", "underscore"),
    ],
)
def test_an_address_that_no_site_can_use_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        canonical_host_port(text)
    assert canonical_host_port("[2001:DB8::1]:09443") == "[2001:db8::1]:9443"
    assert str(ipaddress.ip_address(canonical_host("::ffff:10.0.0.1"))) == "::ffff:a00:1"


def test_a_port_in_use_ends_a_server_at_once_and_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        deployment = Deployment(federation="net", sites=SITES, port=port, superlink_port=port - 1)
        initialise(tmp_path / "net", deployment)
        said: list[str] = []
        process = ServerProcess(ServerFolder(tmp_path / "net" / "server"), say=said.append)
        with pytest.raises(ConfigError, match=rf"port {port} of 127\.0\.0\.1 .*port in server"):
            process.run(threading.Event())
    assert said == []
    assert not (tmp_path / "net" / "server" / "logs").exists()
    require_free_port("127.0.0.1", port, setting="port")
    with pytest.raises(ConfigError, match="assign requested address"):
        require_free_port("192.0.2.1", port, setting="listen")


def test_no_proxy_is_asked_for_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", "intranet.example")
    names = {"intranet.example", "127.0.0.1", "localhost", "::1"}
    found = quiet_flower()
    assert set(found["no_proxy"].split(",")) == set(found["NO_PROXY"].split(",")) == names
    assert quiet_flower(found)["no_proxy"] == found["no_proxy"]
    for address in ("127.0.0.1:9443", "localhost:9443", "[::1]:9443", "intranet.example:9443"):
        assert proxy_of(address) is None
    line = proxy_of("fl.example.org:9443")
    assert line is not None
    assert "through the proxy proxy.example:3128" in line
    assert "no_proxy=fl.example.org" in line
    assert "secret" not in line
