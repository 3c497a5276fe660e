"""The runtime: receive, decode, admit, execute, conclude, settle. It knows no app and no driver."""

from asyncq.worker._flow import WorkerStats
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._supervision import Supervision
from asyncq.worker._worker import Worker

__all__ = ["Supervision", "Worker", "WorkerSetup", "WorkerStats"]
