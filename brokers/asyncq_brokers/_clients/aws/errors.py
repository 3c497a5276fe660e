"""What AWS and aiobotocore answer, in asyncq's words: the one place where their errors are translated."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from botocore.exceptions import (
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from asyncq.errors import AsyncqError, ConfigurationError
from asyncq_brokers._clients.error_family import ErrorFamily

__all__ = ["Refusal", "is_throttling", "translate"]


_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "KmsThrottled",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflictException",
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "Forbidden"})
_BAD_CREDENTIALS = frozenset(
    {
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
#: Credentials that were renewed in time on another day: asking again may find new ones.
_STALE_CREDENTIALS = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidToken"})

#: Calls that IAM has another name for.
_ACTIONS = {
    "AssumeRole": "sts:AssumeRole",  # in whatever service's name it is asked
    "ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "SendMessageBatch": "sqs:SendMessage",
    "DeleteObjects": "s3:DeleteObject",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "TransactWriteItems": "dynamodb:PutItem or dynamodb:UpdateItem",
}


class Refusal(Exception):
    """The service's no to one call, before it is put into asyncq's words."""

    def __init__(self, code: str, text: str, operation: str, status: int, details: dict[str, Any]) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        #: The call, as its API names it: `SendMessageBatch`.
        self.operation = operation
        self.status = status
        #: The whole answer (Any: each error has its own).
        self.details = details

    @classmethod
    def of(cls, error: ClientError) -> Refusal:
        """Read botocore's error."""
        response = cast("dict[str, Any]", error.response)
        found: dict[str, Any] = response.get("Error", {})
        # The old query protocol's codes still come as `AWS.SimpleQueueService.NonExistentQueue`.
        code = str(found.get("Code", "")).rpartition(".")[2]
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        operation: object = cast("Any", error).operation_name  # Any: botocore has no types
        return cls(code, str(found.get("Message", "")), str(operation), status, response)

    def action(self, service: str) -> str:
        """What IAM calls it: `sqs:SendMessage`, whose policies know no batches."""
        return _ACTIONS.get(self.operation, f"{service}:{self.operation}")

    @property
    def throttled(self) -> bool:
        """Nothing was done, since too much is asked at the moment."""
        return is_throttling(self.code) or self.status == 429

    @property
    def denied(self) -> bool:
        """Nothing was done, since these credentials may not."""
        return self.code in _DENIED

    def translated(self, family: ErrorFamily, service: str, address: str, *, starting: bool = False) -> AsyncqError:
        """The driver's error for it.

        What is denied is a fault of the settings to whoever starts (`starting`). While work goes on it is a refusal
        like any other: policies change, and no worker ends because one of its calls is denied.
        """
        if self.denied:
            kind = ConfigurationError if starting else family.refused
            action = self.action(service)
            return kind(f"{address} denies {action}: allow that action to this user or role in its IAM policy")
        if self.code in _BAD_CREDENTIALS:
            return ConfigurationError(f"{address} refuses our credentials ({self.code})")
        if self.throttled or self.status >= 500 or self.code in _STALE_CREDENTIALS:
            return family.connection(f"{address} does not serve {self.operation} at the moment: {self.code}")
        if self.code in {"OverLimit", "LimitExceededException"}:
            return family.full(f"{address} refuses {self.operation}: {self}")
        return family.refused(f"{address} refuses {self.operation}: {self}")


def is_throttling(code: str) -> bool:
    """Whether an error says that too much is asked at the moment, so that nothing was done."""
    return code in _THROTTLED


def translate(error: BaseException, family: ErrorFamily, address: str) -> AsyncqError:
    """What is no answer of the service: an error of botocore, of the operating system or of asyncio."""
    if isinstance(error, AsyncqError):
        return error
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return ConfigurationError(
            f"no AWS credentials for {address}: put them into the URL, the environment (AWS_ACCESS_KEY_ID, "
            f"AWS_PROFILE) or run where a role gives them ({error})"
        )
    if isinstance(error, NoRegionError):
        return ConfigurationError(f"no AWS region for {address}: set the option `region` or AWS_DEFAULT_REGION")
    if isinstance(error, ParamValidationError):
        return family.refused(f"{address} can't be asked that: {error}")
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return family.connection(f"{address} did not answer in time")
    return family.connection(f"lost the connection to {address}: {str(error) or type(error).__name__}")
