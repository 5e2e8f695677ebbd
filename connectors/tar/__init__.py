"""Tar archives as sources, read member by member and never extracted.

Imports what :mod:`connectors.folder` imports, and that package's scan and positions. Read
:mod:`connectors.tar.source` first.
"""
