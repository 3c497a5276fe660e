"""TLS: who the server is, is checked; who we are, a certificate may say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from amqp_kit import make_broker
from asyncq.driver import Queue
from asyncq.errors import BrokerConnectionError, ConfigurationError
from servers import RabbitServer, free_port


class Certificates(NamedTuple):
    """Of an authority that nobody else knows, and one that it gave to `localhost`, which serves both sides."""

    authority: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    signed = "-CA authority.pem -CAkey authority.key -CAcreateserial"
    for command in (
        f"req -x509 {key} -days 2 -subj /CN=authority -out authority.pem -keyout authority.key",
        f"req -new {key} -subj /CN=localhost -out request.pem -keyout key.pem",
        f"x509 -req {signed} -days 2 -extfile names -in request.pem -out certificate.pem",
    ):
        subprocess.run([openssl, *command.split()], check=True, capture_output=True, cwd=folder)
    return Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")


class TlsNode(NamedTuple):
    server: RabbitServer
    port: int


@pytest.fixture(scope="module")
def node(certificates: Certificates) -> Iterator[TlsNode]:
    """A node that lets nobody in without a certificate that it trusts; which may say who we are, too."""
    port = free_port()
    options = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": str(certificates.authority),
        "ssl_options.certfile": str(certificates.certificate),
        "ssl_options.keyfile": str(certificates.key),
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "auth_mechanisms.1": "PLAIN",
        "auth_mechanisms.2": "EXTERNAL",
        "ssl_cert_login_from": "common_name",
    }
    server = RabbitServer(**options)
    (server.folder / "plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n")
    with server:
        yield TlsNode(server, port)


@pytest.mark.parametrize(
    ("host", "query", "works"),
    [
        ("localhost", "ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={key}", True),
        ("127.0.0.1", "ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={key}&ssl_server_hostname=localhost", True),
        ("127.0.0.1", "ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={key}&ssl_check_hostname=false", True),
        ("127.0.0.1", "ssl_cert_reqs=none&ssl_certfile={own}&ssl_keyfile={key}", True),
        # Its certificate is not known; is somebody else's; we show none.
        ("localhost", "ssl_certfile={own}&ssl_keyfile={key}", False),
        ("127.0.0.1", "ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={key}", False),
        ("localhost", "ssl_ca_certs={ca}", False),
    ],
)
async def test_certificates_are_checked_both_ways(
    node: TlsNode, certificates: Certificates, host: str, query: str, works: bool
) -> None:
    files = query.format(ca=certificates.authority, own=certificates.certificate, key=certificates.key)
    url = f"amqps://guest:guest@{host}:{node.port}/?{files}"
    broker = make_broker(url, timeout=5.0)
    try:
        if works:
            assert (await broker.depth("nothing")).ready == 0
        else:
            with pytest.raises(BrokerConnectionError):
                await broker.open()
    finally:
        await broker.close()


async def test_a_certificate_says_who_we_are(node: TlsNode, certificates: Certificates) -> None:
    authority, certificate, key = certificates
    files = f"ssl_ca_certs={authority}&ssl_certfile={certificate}&ssl_keyfile={key}"
    url = f"amqps://guest:guest@localhost:{node.port}/?{files}&login_method=EXTERNAL"
    stranger = make_broker(url, timeout=5.0)
    with pytest.raises(ConfigurationError, match="ACCESS_REFUSED"):  # guest's password is of no use
        await stranger.open()
    await stranger.close()

    node.server.add_user("localhost", "unused", "/", configure="ours")
    broker = make_broker(url, timeout=5.0)
    try:
        await broker.declare([Queue(name="ours")])
        assert (await broker.depth("ours")).ready == 0
        with pytest.raises(ConfigurationError, match="no right to declare"):
            await broker.declare([Queue(name="theirs")])
    finally:
        await broker.close()
