"""Bodies made smaller, and the bounded way back (messages.md, section 6).

kombu inflates without a bound; 113 bytes of bzip2 are 100 MiB (reliability.md, M13). Here nothing is inflated further
than one byte past what the limits allow, and only what the app allows is inflated at all.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Callable
from typing import Protocol, cast

from msgspec import Struct

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol._types import Limits

#: Bytes below which the ratio is not asked for: a body of half a MiB of the same letter is dull and no attack.
_RATIO_FLOOR = 512 * 1024

#: A xz stream says how much memory its decoder needs; the strongest preset needs 65 MiB.
_LZMA_MEMORY = 96 * 1024 * 1024


class _Decompressor(Protocol):
    """What the decompressors of zlib, bz2, lzma and zstd have in common."""

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Codec(Struct, frozen=True):
    """One compression. The functions import what they need when they are called, and raise ImportError."""

    #: asyncq's name for it, Celery's other names, and the name that travels.
    name: str
    aliases: frozenset[str]
    content_type: str
    compress: Callable[[bytes], bytes]
    #: At most `bound` + 1 bytes, the whole stream or an exception.
    inflate: Callable[[bytes, int], bytes]
    #: What to install where an import fails.
    package: str = "a Python that was built with it"


def compress(data: bytes, name: str, limits: Limits) -> tuple[bytes, str] | None:
    """The compressed bytes and the content type that names the compression.

    None when they would inflate beyond what a reader with these limits takes: such data travels as it is.
    Raises EncodeError for a compression that doesn't exist or is not installed.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise EncodeError(f"unknown compression {name!r:.80}")
    try:
        packed = codec.compress(data)
    except ImportError as exc:
        raise EncodeError(f"compression {codec.name} needs {codec.package}") from exc
    return (packed, codec.content_type) if len(data) <= _bound(packed, limits) else None


def decompress(data: bytes, name: str, limits: Limits) -> tuple[bytes, str]:
    """The inflated bytes and asyncq's name of the compression; `name` is a content type or one of Celery's names.

    Raises DecodeError: unknown, not allowed or not installed, corrupt, cut off, too large.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise DecodeError(f"unknown compression {name!r:.80}")
    if limits.compressions.isdisjoint((codec.name, codec.content_type, *codec.aliases)):
        raise DecodeError(f"compression {codec.name} is not allowed here")
    bound = _bound(data, limits)
    try:
        inflated = codec.inflate(data, bound)
    except ImportError as exc:
        raise DecodeError(f"compression {codec.name} needs {codec.package}") from exc
    except (DecodeError, MemoryError):
        raise
    except Exception as exc:  # each library has classes of its own for corrupt data
        raise DecodeError(f"corrupt {codec.name} data: {exc}") from exc
    if len(inflated) > bound:
        raise DecodeError(f"{len(data)} bytes of {codec.name} inflate beyond the {bound} bytes allowed")
    return inflated, codec.name


def _bound(packed: bytes, limits: Limits) -> int:
    return min(limits.max_inflated_bytes, max(_RATIO_FLOOR, limits.max_ratio * len(packed)))


def _inflate(stream: _Decompressor, data: bytes, bound: int) -> bytes:
    inflated = stream.decompress(data, bound + 1)
    if len(inflated) <= bound:
        if not stream.eof:
            raise DecodeError("compressed data is cut off")
        if stream.unused_data:
            raise DecodeError("something follows the compressed data")
    return inflated


def _inflate_zlib(data: bytes, bound: int) -> bytes:
    # What Celery calls gzip is a zlib stream; 32 makes zlib take a real gzip file, too.
    return _inflate(zlib.decompressobj(wbits=zlib.MAX_WBITS | 32), data, bound)


def _compress_bzip2(data: bytes) -> bytes:
    import bz2

    return bz2.compress(data)


def _inflate_bzip2(data: bytes, bound: int) -> bytes:
    import bz2

    return _inflate(bz2.BZ2Decompressor(), data, bound)


def _compress_lzma(data: bytes) -> bytes:
    import lzma

    return lzma.compress(data)


def _inflate_lzma(data: bytes, bound: int) -> bytes:
    import lzma

    return _inflate(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), data, bound)


class _Zstd(Protocol):
    """The module of Python 3.14, or its backport."""

    def compress(self, data: bytes, /) -> bytes: ...

    def ZstdDecompressor(self) -> _Decompressor: ...  # noqa: N802 - its name there


def _zstd() -> _Zstd:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return cast("_Zstd", importlib.import_module(name))


def _compress_zstd(data: bytes) -> bytes:
    return _zstd().compress(data)


def _inflate_zstd(data: bytes, bound: int) -> bytes:
    return _inflate(_zstd().ZstdDecompressor(), data, bound)


class _BrotliDecompressor(Protocol):
    def process(self, data: bytes, /, *, output_buffer_limit: int) -> bytes: ...

    def is_finished(self) -> bool: ...


class _Brotli(Protocol):
    """Google's module, from 1.2 on: earlier ones can't bound what they inflate."""

    def compress(self, data: bytes, /) -> bytes: ...

    def Decompressor(self) -> _BrotliDecompressor: ...  # noqa: N802 - its name there


def _brotli() -> _Brotli:
    return cast("_Brotli", importlib.import_module("brotli"))


def _compress_brotli(data: bytes) -> bytes:
    return _brotli().compress(data)


def _inflate_brotli(data: bytes, bound: int) -> bytes:
    stream = _brotli().Decompressor()
    inflated = stream.process(data, output_buffer_limit=bound + 1)
    if len(inflated) <= bound and not stream.is_finished():
        raise DecodeError("compressed data is cut off")
    return inflated


def _by_every_name(*codecs: _Codec) -> dict[str, _Codec]:
    return {name: codec for codec in codecs for name in (codec.name, codec.content_type, *codec.aliases)}


_CODECS = _by_every_name(
    _Codec("zlib", frozenset({"gzip"}), "application/x-gzip", zlib.compress, _inflate_zlib),
    _Codec("bzip2", frozenset({"bzip", "bz2"}), "application/x-bz2", _compress_bzip2, _inflate_bzip2),
    _Codec("lzma", frozenset({"xz"}), "application/x-lzma", _compress_lzma, _inflate_lzma),
    _Codec("zstd", frozenset({"zstandard"}), "application/zstd", _compress_zstd, _inflate_zstd, "backports.zstd"),
    _Codec("brotli", frozenset(), "application/x-brotli", _compress_brotli, _inflate_brotli, "brotli>=1.2"),
)
