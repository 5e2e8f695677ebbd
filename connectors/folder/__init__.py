"""Watched folders as sources, and folders of captions as sinks.

Imports the contract, the errors, and the packages of files, media and messages. Read
:mod:`connectors.folder.source` first.
"""
