"""asyncq beside other libraries: the same measures, in one run, taking turns.

    python -m benchmarks [tasks] [--on redis|rabbitmq] [--rounds N] [--size FACTOR] [--only NAME …] [--json FILE]
    python -m benchmarks canvas  [--rounds N] [--size FACTOR] [--only NAME …] [--json FILE]

Every program stands in a process of its own and talks to one private server. Nothing here asserts a speed: it writes
down what it saw. docs/benchmarks.md holds recorded results.
"""
