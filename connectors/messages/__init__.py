"""The message format: schema, JSON codec, CloudEvents headers and WebVTT.

Imports the contract, the errors and the translation of pydantic's faults. Read :mod:`connectors.messages.schema` first.
"""
