"""asyncq beside Celery and taskiq: the same measures, in one run, taking turns.

    python -m benchmarks [--rounds N] [--size FACTOR] [--only NAME …] [--json FILE]

Every program stands in a process of its own and talks to one private redis-server. Nothing here asserts a speed: it
writes down what it saw. docs/benchmarks.md holds a recorded result.
"""
