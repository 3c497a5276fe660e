"""The same application, once for each of the libraries: a task that does nothing, and one that writes down the time.

Each module has what its worker command names, and `sender()`.
"""
