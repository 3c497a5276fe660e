"""A worker's hold on its queues."""

from __future__ import annotations

from msgspec import Struct

from asyncq._flight import FlightRecorder
from asyncq.driver import Consumer, ConsumerOptions
from asyncq.worker._flow import Flow
from asyncq.worker._leases import LeaseKeeper
from asyncq.worker._maintenance import Maintenance
from asyncq.worker._settler import Settler
from asyncq.worker._setup import WorkerSetup


class Hold(Struct, frozen=True, eq=False):
    """The consumer, and those who keep what it has taken, settle it, and do the housekeeping meanwhile."""

    consumer: Consumer
    leases: LeaseKeeper
    settler: Settler
    maintenance: Maintenance


def take_hold(setup: WorkerSetup, flow: Flow, *, node: str, flights: FlightRecorder | None) -> Hold:
    """Nothing is taken yet."""
    clock, dice = setup.environment.clock, setup.environment.random
    options = ConsumerOptions(node=node, lease=setup.lease, prefetch=2 * setup.concurrency)
    consumer = setup.broker.consume(setup.queues, options)
    leases = LeaseKeeper(consumer, clock, dice, setup.lease)
    settler = Settler(consumer, leases, flow, dice, flights=flights)
    return Hold(consumer, leases, settler, Maintenance(consumer, clock, dice))
