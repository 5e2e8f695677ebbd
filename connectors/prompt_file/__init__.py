"""NeVA's prompt file as a source, and its file of answers as a sink.

Imports the contract, the errors, :mod:`connectors.files` and :mod:`connectors.media`. Read
:mod:`connectors.prompt_file.source` first.
"""
