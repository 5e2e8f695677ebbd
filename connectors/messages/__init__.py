"""The message format: schema, JSON codec, CloudEvents headers and WebVTT.

Imports the contract and the errors. Read :mod:`connectors.messages.schema` first.
"""
