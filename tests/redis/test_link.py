"""The shared connection: who gets which reply, and what becomes of it when something breaks."""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import structs
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from asyncq._clock import system_environment
from asyncq.errors import BrokerConnectionError, BrokerError, BrokerFull, ConfigurationError
from asyncq_brokers._clients.redis import BROKER_ERRORS, Link, Script, parse_endpoint, session, translate
from asyncq_brokers._clients.redis.endpoint import Endpoint
from redis_kit import BOUND, Client
from servers import RedisServer, free_port
from waiting import until


def make_link(endpoint: Endpoint, *, timeout: float = 5.0) -> Link:
    return Link(endpoint, errors=BROKER_ERRORS, clock=system_environment().clock, timeout=timeout)


@pytest.fixture
async def link(url: str) -> AsyncIterator[Link]:
    link = make_link(parse_endpoint(url))
    yield link
    await link.close()


async def test_many_callers_share_one_connection_and_each_gets_its_own_reply(link: Link, client: Client) -> None:
    async def echo(number: int) -> None:
        for turn in range(20):
            assert await link.call("ECHO", f"{number}-{turn}") == f"{number}-{turn}".encode()

    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(echo(number))

    assert len([c for c in client.client_list() if c["cmd"] == "echo"]) == 1


async def test_a_cancelled_caller_leaves_the_others_their_replies(link: Link) -> None:
    """redis-py#2624: a cancelled command gave the next caller its reply."""

    async def echo(text: str) -> bytes:
        return await link.call("ECHO", text)

    await link.call("PING")
    for number in range(200):
        doomed = asyncio.create_task(echo(f"doomed-{number}"))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        doomed.cancel()
        assert await echo(f"mine-{number}") == f"mine-{number}".encode()
        await asyncio.wait([doomed])


async def test_a_refusal_is_its_callers_alone(link: Link, client: Client) -> None:
    client.set("text", "x")

    answers = await link.calls([("LPUSH", "text", "1"), ("GET", "text"), ("NOSUCH",)])

    assert isinstance(answers[0], BrokerError)
    assert answers[1] == b"x"
    assert isinstance(answers[2], BrokerError)
    with pytest.raises(BrokerError, match="WRONGTYPE"):
        await link.call("LPUSH", "text", "1")
    with pytest.raises(BrokerError, match="WRONGTYPE"):
        await link.pipeline([("GET", "text"), ("LPUSH", "text", "1")])


async def test_a_transaction_is_all_or_nothing_and_tells_what_was_refused_late(link: Link, client: Client) -> None:
    client.set("text", "x")

    answers = await link.transaction([("LPUSH", "list", "1"), ("LPUSH", "text", "1"), ("LPUSH", "list", "2")])

    assert (answers[0], answers[2]) == (1, 2)
    assert isinstance(answers[1], BrokerError)
    with pytest.raises(BrokerError):
        await link.transaction([("LPUSH", "list", "3"), ("NOSUCH",)])
    assert client.llen("list") == 2


async def test_a_script_is_loaded_when_the_server_does_not_know_it(link: Link, client: Client) -> None:
    script = Script("count", b"return redis.call('INCR', KEYS[1]) + ARGV[1]")

    assert await link.run(script, ["counter"], [10]) == 11
    client.script_flush()
    assert await link.run(script, ["counter"], [10]) == 12


async def test_a_wrong_script_is_a_refusal(link: Link) -> None:
    with pytest.raises(BrokerError):
        await link.run(Script("bad", b"return ("), [], [])
    with pytest.raises(BrokerError):
        await link.run(Script("failing", b"return redis.call('NOSUCH')"), [], [])
    assert await link.call("PING") == b"PONG"


async def test_large_requests_and_replies_pass(link: Link) -> None:
    large = bytes(range(256)) * 4 * 1024 * 20  # 20 MiB

    await link.call("SET", "large", large)

    assert await link.call("GET", "large") == large


async def test_a_killed_connection_fails_what_is_under_way_and_is_made_anew(link: Link, client: Client) -> None:
    number: int = await link.call("CLIENT", "ID")
    blocked = asyncio.create_task(link.call("BLPOP", "never", 30))
    await asyncio.sleep(0.05)

    client.client_kill_filter(_id=number)

    with pytest.raises(BrokerConnectionError):
        await blocked
    assert await link.call("CLIENT", "ID") != number


async def test_an_overdue_reply_ends_the_connection_for_all(url: str, client: Client) -> None:
    link = make_link(parse_endpoint(url), timeout=0.3)
    number: int = await link.call("CLIENT", "ID")
    started = asyncio.get_running_loop().time()
    blocked = asyncio.create_task(link.call("BLPOP", "never", 5))
    await asyncio.sleep(0)
    behind = asyncio.create_task(link.call("PING"))

    for one in (blocked, behind):
        with pytest.raises(BrokerConnectionError):
            async with asyncio.timeout(BOUND):
                await one

    assert asyncio.get_running_loop().time() - started < 0.3 + 0.5
    assert await link.call("CLIENT", "ID") != number
    await link.close()


async def test_connecting_has_the_same_deadline() -> None:
    """A server that accepts and says nothing: a password makes the client wait for its first answer."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    link = make_link(parse_endpoint(f"redis://:pw@127.0.0.1:{port}/0"), timeout=0.3)
    try:
        calls = [asyncio.create_task(link.call("PING")) for _ in range(3)]
        async with asyncio.timeout(2):
            await asyncio.wait(calls)
        for call in calls:
            assert isinstance(call.exception(), BrokerConnectionError)
    finally:
        await link.close()
        server.close()
        await asyncio.sleep(0.05)


async def test_closing_ends_calls_under_way_and_refuses_new_ones(link: Link) -> None:
    blocked = asyncio.create_task(link.call("BLPOP", "never", 30))
    await asyncio.sleep(0.05)

    async with asyncio.timeout(1):
        await link.close()
        await link.close()

    with pytest.raises(BrokerConnectionError):
        await blocked
    with pytest.raises(BrokerConnectionError):
        await link.call("PING")


async def test_closing_a_frozen_connection_takes_no_time(own_server: RedisServer) -> None:
    link = make_link(structs.replace(parse_endpoint(own_server.url()), client_name="asyncq:link"))
    await link.call("PING")
    with own_server.paused():
        stuck = asyncio.create_task(link.call("SET", "large", b"x" * 50 * 1024 * 1024))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(1):
            await link.close()
        with pytest.raises(BrokerConnectionError):
            await stuck
    # What the system still held has a reader again.
    await until(lambda: own_server.command("CLIENT", "LIST").count(b"asyncq:link") == 0)


async def test_a_connection_that_is_cancelled_while_it_is_made_leaves_nothing_open(url: str, client: Client) -> None:
    endpoint = parse_endpoint(url)
    for turns in range(30):
        link = make_link(endpoint)
        call = asyncio.create_task(link.call("PING"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await link.close()
    gc.collect()  # a socket that was left open would speak up here
    await asyncio.sleep(0.1)

    assert len(client.client_list()) < 10


async def test_it_works_without_hiredis(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_pack_fast", None)

    assert await link.call("ECHO", "ünï\r\ncode with spaces") == "ünï\r\ncode with spaces".encode()
    assert await link.calls([("ECHO", b"\0\xff"), ("ECHO", 5)]) == [b"\0\xff", b"5"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), BrokerFull),
        (ResponseError("OOM command not allowed when used memory > 'maxmemory'."), BrokerFull),
        (ResponseError("user_script:1: OOM command not allowed when used memory"), BrokerFull),
        (ReadOnlyError("You can't write against a read only replica."), BrokerConnectionError),
        (MasterDownError("Link with MASTER is down"), BrokerConnectionError),
        (BusyLoadingError("Redis is loading the dataset in memory"), BrokerConnectionError),
        (AuthenticationError("invalid username-password pair"), ConfigurationError),
        (ResponseError("NOAUTH Authentication required."), ConfigurationError),
        (NoPermissionError("this user has no permissions to run the 'x' command"), BrokerError),
        (ResponseError("WRONGTYPE Operation against a key"), BrokerError),
        (RedisConnectionError("Connection closed by server."), BrokerConnectionError),
        (TimeoutError(), BrokerConnectionError),
        (asyncio.CancelledError(), BrokerConnectionError),
        (OSError(104, "Connection reset by peer"), BrokerConnectionError),
        (EOFError(), BrokerConnectionError),
    ],
)
def test_errors_are_translated_in_one_place(error: BaseException, kind: type[Exception]) -> None:
    translated = translate(error, BROKER_ERRORS, "redis://queue:6379/0")

    assert type(translated) is kind
    assert "redis://queue:6379/0" in str(translated)


# -- names and certificates ----------------------------------------------------------------------------------


async def test_a_name_is_found_while_the_users_threads_are_all_busy(server: RedisServer) -> None:
    """asyncio's default executor belongs to the user, whose slow functions may fill it."""
    link = make_link(parse_endpoint(f"redis://localhost:{server.port}/0"), timeout=3.0)
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        busy = loop.run_in_executor(None, release.wait)
        try:
            assert await link.call("PING") == b"PONG"
        finally:
            release.set()
            await busy
            await link.close()


async def test_an_unknown_name_is_a_connection_error() -> None:
    link = make_link(parse_endpoint("redis://no-such-host.invalid/0"))

    with pytest.raises(BrokerConnectionError, match=r"no-such-host\.invalid"):
        await link.call("PING")
    await link.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `localhost` that only itself vouches for, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run([openssl, *request.split(), *names, *files], check=True, capture_output=True)
    return certificate, key


async def test_tls_checks_certificate_and_name(certificate: tuple[Path, Path]) -> None:
    port = free_port()
    tls = {
        "tls_port": str(port),
        "tls_cert_file": str(certificate[0]),
        "tls_key_file": str(certificate[1]),
        "tls_auth_clients": "no",
    }
    with RedisServer(**tls):
        accepted = {
            f"rediss://localhost:{port}/0": False,
            f"rediss://localhost:{port}/0?ssl_ca_certs={certificate[0]}": True,
            f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate[0]}": False,
            f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate[0]}&ssl_check_hostname=false": True,
            f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none": True,
            f"redis://127.0.0.1:{port}/0": False,
        }
        for url, works in accepted.items():
            link = make_link(parse_endpoint(url), timeout=3.0)
            if works:
                assert await link.call("PING") == b"PONG", url
            else:
                with pytest.raises(BrokerConnectionError):
                    await link.call("PING")
            await link.close()
