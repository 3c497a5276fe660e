"""Faults on purpose, and the proof that nothing is lost by them.

The kit, in the order in which a row meets it:

* `scale`: how large an experiment is. The fixture `scale` has each row run in a short form (`make test`) and, marked
  `soak`, in the specification's size (`make soak`).
* `trial`: `Trial` is one experiment. It starts workers as real processes and a producer; `fault(…)` puts what happens
  on record; `finish()` drains, stops, compares and returns a `Report`, whose `check(duplicates=…)` raises when a bound
  is broken that all rows share: lost 0, unexpected 0, wrong result 0, nothing acknowledged before it was stored, stuck
  0, silence at most 5 s outside of faults, exit codes 0. What a row bounds beyond that it asserts itself:
  `report.faults[0].first`.
  `trial.growth()` tells tasks, descriptors and memory that a worker has more than before; the fixture `figures` prints
  all that was measured at the end of a soak.
* `fleet`: `trial.fleet.hosts` are `asyncq worker` commands, each with its processes: `host.workers` are their pids,
  `host.die()` kills all of them as a host's end does, `fleet.add()` starts another one.
* `places`: what has messages and results. `@on("redis", "sqlite", "rabbit")` has a row run on each of these; the
  fixtures `places`, `broker_server`, `proxy` are that one's. `vhost` looks at a RabbitMQ as its operator does.
* `proxy`: stands between workers, clients and a server, and does what networks do.
* `perils`: tasks that kill, block, devour. `clock`: a wall clock for workers that a test sets.
* `app`: the tasks. A row that needs another one adds it to `declare_tasks`; `run_on_record` puts its runs on record.
* `workflows`: chords and chains in place of single tasks, and whether each body was sent once, with the right results.
* `ledger`, `checker`: what really happened, and what is wrong with it. `trace`: in which order a Redis saw it; `wire`:
  the same from what passes between workers and a RabbitMQ.
* `aftermath`: what became of the tasks of a process that was killed, and how soon.

::

    @on("redis", "rabbit")
    async def test_f5_a_partition(tmp_path, scale, places, proxy, figures):
        seen = places.behind(proxy.port)
        async with Trial(tmp_path, scale, places, broker=seen.broker, backend=seen.backend) as trial:
            async with trial.fault("blackhole"):
                proxy.blackhole()
                await trial.endure()
                proxy.heal()
            report = await trial.finish()
        figures(report, trial)
        report.check(duplicates=trial.in_flight)

A report that breaks a bound names the tasks with their histories, the seed, and the folder in which pytest keeps
ledgers, workers' logs and the server's log.
"""
