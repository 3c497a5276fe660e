"""Compressed bodies: both ways, and bombs."""

from __future__ import annotations

import bz2
import lzma
import tracemalloc
import zlib
from collections.abc import Callable

import kombu.compression
import pytest

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import Limits, ResultRecord, TaskMessage, WireMessage, decode_result, decode_task, encode_result
from asyncq.protocol import encode_task as encode

_EVERY = Limits(compressions=frozenset({"zlib", "bzip2", "lzma", "zstd", "brotli"}))
_HEADERS = {"task": "t", "id": "i"}
_BODY = b'[["x"], {}, {}]'

#: zstd and brotli as far as their libraries are installed: kombu knows.
_HERE = ["zlib", *(name for name in ("bzip2", "lzma", "zstd", "brotli") if name in kombu.compression._aliases)]


def _packed(body: bytes, compression: str) -> WireMessage:
    return WireMessage(body, {**_HEADERS, "compression": compression})


@pytest.mark.parametrize("name", _HERE)
def test_kombu_reads_what_we_compress_and_we_what_kombu_does(name: str) -> None:
    wire = encode(TaskMessage(task="t", id="i", args=["x" * 500], compression=name))
    body = kombu.compression.decompress(wire.body, wire.headers["compression"])
    assert body.startswith(b'[["xxx')
    message = decode_task(wire, limits=_EVERY)
    assert (message.args, message.compression) == (["x" * 500], name)

    theirs, content_type = kombu.compression.compress(_BODY, name)
    assert content_type == wire.headers["compression"]
    assert decode_task(_packed(theirs, content_type), limits=_EVERY).args == ["x"]


@pytest.mark.parametrize("alias", ["gzip", "zlib", "application/x-gzip"])
def test_aliases_are_understood_in_the_header_and_in_the_limits(alias: str) -> None:
    limits = Limits(compressions=frozenset({alias}))
    assert decode_task(_packed(zlib.compress(_BODY), alias), limits=limits).compression == "zlib"
    assert decode_task(_packed(zlib.compress(_BODY), "application/x-gzip"), limits=limits).compression == "zlib"


def test_a_real_gzip_file_is_understood() -> None:
    packer = zlib.compressobj(wbits=31)
    assert decode_task(_packed(packer.compress(_BODY) + packer.flush(), "gzip")).args == ["x"]


@pytest.mark.parametrize("name", ["bzip2", "lzma", "zstd", "brotli"])
def test_only_zlib_is_undone_by_default(name: str) -> None:
    with pytest.raises(DecodeError, match=f"compression {name} is not allowed here"):
        decode_task(_packed(b"x", name))


@pytest.mark.parametrize(("name", "package"), [("zstd", "backports.zstd"), ("brotli", r"brotli>=1\.2")])
def test_a_missing_library_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> object:
        raise ModuleNotFoundError(module)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(DecodeError, match=f"compression {name} needs {package}"):
        decode_task(_packed(b"x", name), limits=_EVERY)
    with pytest.raises(EncodeError, match=f"compression {name} needs {package}"):
        encode(TaskMessage(task="t", id="i", compression=name))


@pytest.mark.parametrize("name", _HERE)
def test_corrupt_data_is_refused(name: str) -> None:
    packed, _ = kombu.compression.compress(_BODY * 50, name)
    for broken in (b"", b"x" * 20, packed[:-4], packed[: len(packed) // 2], packed[5:], packed + b"\x00more"):
        with pytest.raises(DecodeError, match=f"compress|{name}"):
            decode_task(_packed(broken, name), limits=_EVERY)


# -- bombs ---------------------------------------------------------------------------------------------------

_ZEROS = bytes(1024 * 1024)


def _inflating(pack: Callable[[bytes], bytes], finish: Callable[[], bytes], mebibytes: int) -> bytes:
    return b"".join([*(pack(_ZEROS) for _ in range(mebibytes)), finish()])


@pytest.fixture(scope="module", params=_HERE)
def bomb(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """Zeros, 32 to 128 MiB of them."""
    name: str = request.param
    if name == "zlib":
        zlib_packer = zlib.compressobj(1)
        return name, _inflating(zlib_packer.compress, zlib_packer.flush, 128)
    if name == "bzip2":
        bzip2_packer = bz2.BZ2Compressor()
        return name, _inflating(bzip2_packer.compress, bzip2_packer.flush, 32)
    if name == "lzma":
        lzma_packer = lzma.LZMACompressor(preset=0)
        return name, _inflating(lzma_packer.compress, lzma_packer.flush, 32)
    return name, kombu.compression.compress(_ZEROS * 32, name)[0]


def test_a_bomb_is_refused_before_it_goes_off(bomb: tuple[str, bytes]) -> None:
    name, packed = bomb
    content_type = kombu.compression.get_encoder(name)[1].encode()
    record = b"\x00celery-compressed\x00" + content_type + b"\x00" + packed
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=f"of {name} inflate beyond the"):
            decode_task(_packed(packed, name), limits=_EVERY)
        with pytest.raises(DecodeError, match=f"of {name} inflate beyond the"):
            decode_result(record, limits=_EVERY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The limits allow two hundred times what came; the pieces and their sum make it twice that.
    assert peak < 2.5 * max(512 * 1024, 200 * len(packed)) + 1024 * 1024


def test_the_smallest_bombs_cost_next_to_nothing() -> None:
    packer = bz2.BZ2Compressor()
    small = _inflating(packer.compress, packer.flush, 32)
    assert len(small) < 200
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="inflate beyond the 524288 bytes allowed"):
            decode_task(_packed(small, "bzip2"), limits=_EVERY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


def test_a_bomb_in_a_bomb_is_inflated_once() -> None:
    inner = zlib.compress(zlib.compress(_ZEROS))
    with pytest.raises(DecodeError, match=r"no JSON|not UTF-8"):
        decode_task(_packed(inner, "zlib"))


def test_a_lzma_stream_that_asks_for_too_much_memory_is_refused() -> None:
    packed = bytearray(lzma.compress(_BODY))
    block_header = packed[12:24]
    block_header[4] = 36  # a dictionary of a GiB
    block_header[8:] = zlib.crc32(block_header[:8]).to_bytes(4, "little")
    packed[12:24] = block_header
    with pytest.raises(DecodeError, match="Memory usage limit"):
        decode_task(_packed(bytes(packed), "lzma"), limits=_EVERY)


def test_dull_data_of_ordinary_size_is_no_bomb() -> None:
    body = b'[["' + b"x" * 500_000 + b'"], {}, {}]'
    packed = zlib.compress(body)
    assert len(body) > 500 * len(packed)
    assert len(decode_task(_packed(packed, "zlib")).args[0]) == 500_000


def test_what_a_reader_would_take_for_a_bomb_is_sent_as_it_is() -> None:
    wire = encode(TaskMessage(task="t", id="i", args=["x" * 2_000_000], compression="zlib"))
    assert "compression" not in wire.headers
    assert decode_task(wire).args == ["x" * 2_000_000]
    raw = encode_result(ResultRecord(task_id="i", status="SUCCESS", result="x" * 2_000_000), compression="zlib")
    assert decode_result(raw).result == "x" * 2_000_000
