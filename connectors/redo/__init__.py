"""Clips that are sent through again because of what their messages say.

Imports the contract, the errors, the message format, and the packages of files, folders and Kafka. Read
:mod:`connectors.redo.clips` first.
"""
