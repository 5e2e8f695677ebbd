"""The service around the main loop: health, the service manager, logs and reloads.

It reads the parts of a running daemon and never touches a clip. Read :mod:`daemon.service.hooks` first.
"""
