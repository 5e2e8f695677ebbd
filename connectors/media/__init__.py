"""Encoded media: everything here opens to a read-only descriptor, wherever the bytes lie.

Imports the errors and :mod:`connectors.files`. Read :mod:`connectors.media.protocols` first.
"""
