"""What goes wrong with an AMQP server. Each error is one for brokers and for result backends, whichever asked."""

from __future__ import annotations

import ssl

from asyncq.errors import (
    AsyncqError,
    BackendConnectionError,
    BackendError,
    BackendFull,
    BrokerConnectionError,
    BrokerError,
    BrokerFull,
)

__all__ = ["Blocked", "ConnectionLost", "NoChannelLeft", "Refused", "copied", "translate"]


#: The class of methods that are about exchanges.
_EXCHANGE = 40


class ConnectionLost(BrokerConnectionError, BackendConnectionError):
    """Not reached, lost, too slow: the fate of the call is unknown."""


class Blocked(BrokerFull, BackendFull):
    """The server is out of memory or disk and reads nothing from those who publish; nothing was sent."""


class NoChannelLeft(BrokerFull, BackendFull):
    """Everything that the server allows is in use; nothing was sent."""


class Refused(BrokerError, BackendError):
    """The server closed a channel, and says why."""

    #: AMQP's reply codes.
    NO_RIGHTS, NOT_FOUND, OTHER_ARGUMENTS = 403, 404, 406

    def __init__(self, code: int, text: str, method: int = 0) -> None:
        super().__init__(code, text, method)
        self.code = code
        self.text = text
        #: What it refuses: class and method, 16 bits each.
        self.method = method

    @property
    def of_exchange(self) -> bool:
        """It is about an exchange, and no queue."""
        return self.method >> 16 == _EXCHANGE

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


def translate(error: BaseException | None, address: str) -> AsyncqError:
    """An error of the operating system, of TLS or of asyncio as ours; None is an end without a reason."""
    if isinstance(error, AsyncqError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionLost(f"the certificate of RabbitMQ at {address} is not trusted: {error.verify_message}")
    if isinstance(error, TimeoutError) and not error.args:
        return ConnectionLost(f"RabbitMQ at {address} did not answer in time")
    reason = "closed by the other side" if error is None else str(error) or type(error).__name__
    return ConnectionLost(f"lost the connection to RabbitMQ at {address}: {reason}")


def copied(error: AsyncqError) -> AsyncqError:
    """The same error once more: each caller gets one of its own, with its own traceback."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
