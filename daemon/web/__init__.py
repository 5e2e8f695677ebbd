"""The page and the daemon's status over HTTP.

Imports the settings, the health and the watchdog of :mod:`daemon.service`, and what :mod:`daemon.feed` keeps. Read
:mod:`daemon.web.pages` first, and :mod:`daemon.web.access` for who may do what.
"""
