"""Keeps worker processes alive: starts, watches and replaces them, and has the tasks of the dead handed back.

It runs as `python -m asyncq.supervisor <config as JSON>` and needs the standard library, the flight table and the log's
formatters: no event loop, no driver, nothing that a user wrote. So it starts at once, stays small, and nothing that a
task or a message does can stop it. What needs a driver is done by the rescuer, a short-lived process.
"""
