"""The metrics and the traces of the daemon.

Imports the contract, the errors, the engines' contract and windows. Read :mod:`daemon.telemetry.metrics` first.
"""
