"""The daemon's status over HTTP, read-only.

Imports the health and the watchdog of :mod:`daemon.service`. Read :mod:`daemon.web.pages` first.
"""
