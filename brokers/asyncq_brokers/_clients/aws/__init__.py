"""What asyncq's drivers for Amazon Web Services share: accounts, calls with a deadline, errors."""

from asyncq_brokers._clients.error_family import BACKEND_ERRORS, BROKER_ERRORS, ErrorFamily

from .account import Account, read_query, split_url
from .errors import Refusal, is_throttling
from .finishing import Finisher
from .link import AwsLink
from .numbers import read_flag, read_number, read_seconds
from .policy import allow, arn, borrow, partition
from .together import together

__all__ = [
    "BACKEND_ERRORS",
    "BROKER_ERRORS",
    "Account",
    "AwsLink",
    "ErrorFamily",
    "Finisher",
    "Refusal",
    "allow",
    "arn",
    "borrow",
    "is_throttling",
    "partition",
    "read_flag",
    "read_number",
    "read_query",
    "read_seconds",
    "split_url",
    "together",
]
