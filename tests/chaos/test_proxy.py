"""Each mode of the proxy does what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from chaos.proxy import Proxy
from waiting import until

#: Seconds in which nothing that was lost has come.
_NOTHING = 0.1


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self.got = b""
        #: Connections of the moment.
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while data := await reader.read(65536):
                self.got += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self, count: int = 1) -> bytes:
        async with asyncio.timeout(20):
            return await self.reader.readexactly(count)

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(_NOTHING):
                return not await self.reader.read(1)
        except TimeoutError:
            return True

    async def is_reset(self) -> bool:
        try:
            async with asyncio.timeout(5):
                await self.reader.read()
        except ConnectionResetError:
            return True
        return False


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        async with Proxy(port_of(server)) as proxy:
            yield proxy
        await until(lambda: echo.open == 0)


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    client = await connect(proxy)
    client.send(b"0")
    assert await client.receive() == b"0"
    yield client
    client.writer.transport.abort()


def port_of(server: asyncio.Server) -> int:
    return server.sockets[0].getsockname()[1]


async def connect(proxy: Proxy) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", proxy.port))


async def test_everything_passes(client: Client, echo: Echo, proxy: Proxy) -> None:
    data = bytes(range(256)) * 8192
    client.send(data)

    assert await client.receive(len(data)) == data
    assert echo.got == b"0" + data
    client.writer.close()
    await until(lambda: echo.open == 0 and proxy.connections == 0)


async def test_the_servers_end_reaches_the_client() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server, Proxy(port_of(server)) as proxy:
        client = await connect(proxy)
        assert await client.reader.read() == b"bye"
        client.writer.close()


async def test_nobody_behind_it_is_told_by_a_reset() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = port_of(server)
    async with Proxy(port) as proxy:
        client = await connect(proxy)
        assert await client.is_reset()
        client.writer.close()


async def test_a_delay_holds_every_byte_up_and_mends_no_order(client: Client, proxy: Proxy) -> None:
    proxy.delay(0.1)
    begun = time.monotonic()
    for number in range(10):
        client.send(b"%d" % number)
        await asyncio.sleep(0.005)

    assert await client.receive(10) == b"0123456789"
    assert 0.2 <= time.monotonic() - begun < 1.0  # there and back; not once for each


async def test_a_throttle_bounds_the_bytes_a_second(client: Client, proxy: Proxy) -> None:
    proxy.throttle(100_000)
    begun = time.monotonic()
    client.send(bytes(30_000))

    await client.receive(30_000)

    assert 0.3 <= time.monotonic() - begun < 2.0


async def test_a_blackhole_keeps_connections_and_drops_bytes(client: Client, echo: Echo, proxy: Proxy) -> None:
    proxy.blackhole()
    client.send(b"1")
    newcomer = await connect(proxy)
    newcomer.send(b"2")
    assert await client.hears_nothing()
    assert await newcomer.hears_nothing()

    proxy.heal()
    client.send(b"3")
    assert await client.receive() == b"3"
    assert echo.got == b"03"
    newcomer.writer.close()


async def test_a_blackhole_tells_no_server_that_its_client_has_gone(client: Client, echo: Echo, proxy: Proxy) -> None:
    proxy.blackhole()
    client.writer.close()
    await client.writer.wait_closed()
    await asyncio.sleep(_NOTHING)
    assert echo.open == 1

    proxy.heal()
    await until(lambda: echo.open == 0)


async def test_only_requests_pass(client: Client, echo: Echo, proxy: Proxy) -> None:
    proxy.half_open("requests")
    client.send(b"1")

    await until(lambda: echo.got == b"01")
    assert await client.hears_nothing()


async def test_only_replies_pass(echo: Echo) -> None:
    push = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await push.wait()
        writer.write(b"1")
        echo.got = await reader.read(1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, Proxy(port_of(server)) as proxy:
        client = await connect(proxy)
        proxy.half_open("replies")
        push.set()
        client.send(b"2")
        assert await client.receive() == b"1"
        assert await client.hears_nothing()
        assert echo.got == b""
        client.writer.close()


async def test_a_freeze_reads_nothing_and_loses_nothing(client: Client, echo: Echo, proxy: Proxy) -> None:
    size = 16 * 1024 * 1024  # more than all buffers on the way
    proxy.freeze()
    client.send(bytes(size))
    await asyncio.sleep(_NOTHING)
    assert client.writer.transport.get_write_buffer_size() > 0
    assert echo.got == b"0"

    proxy.heal()
    await client.receive(size)
    assert len(echo.got) == size + 1


async def test_a_reset_reaches_both_sides(client: Client, echo: Echo, proxy: Proxy) -> None:
    proxy.reset()

    assert await client.is_reset()
    await until(lambda: echo.open == 0)
    again = await connect(proxy)
    again.send(b"1")
    assert await again.receive() == b"1"
    again.writer.close()


async def test_a_cut_falls_behind_the_byte_it_was_asked_for(client: Client, echo: Echo, proxy: Proxy) -> None:
    cut = asyncio.create_task(proxy.cut_after(5))
    await asyncio.sleep(0)
    client.send(b"123")
    await until(lambda: echo.got == b"0123")
    async with asyncio.timeout(5):
        assert await client.reader.read() == b"12"
        await cut

    again = await connect(proxy)
    again.send(b"456")
    assert await again.receive(3) == b"456"
    again.writer.close()


async def test_refused_connections_are_reset(client: Client, proxy: Proxy) -> None:
    proxy.refuse()
    refused = await connect(proxy)
    assert await refused.is_reset()
    client.send(b"1")
    assert await client.receive() == b"1"

    proxy.heal()
    welcome = await connect(proxy)
    welcome.send(b"2")
    assert await welcome.receive() == b"2"
    for one in (refused, welcome):
        one.writer.close()


async def test_forgotten_connections_carry_nothing_for_ever(client: Client, echo: Echo, proxy: Proxy) -> None:
    proxy.forget()
    client.send(b"1")
    assert await client.hears_nothing()
    newcomer = await connect(proxy)
    newcomer.send(b"2")
    assert await newcomer.receive() == b"2"

    proxy.heal()
    client.send(b"3")
    assert await client.hears_nothing()
    client.writer.close()
    newcomer.writer.close()
    await until(lambda: echo.open == 1)  # the server was never told of the first one's end
    assert echo.got == b"02"
