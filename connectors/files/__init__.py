"""Files for every connector: opened beneath a folder, written whole, appended to durably.

Imports :mod:`connectors.errors` alone. Read :mod:`connectors.files.openat` first.
"""
