"""Live streams as sources: recorded to short segments first, then read as windows of the wall clock.

Imports the contract, :mod:`connectors.files` and :mod:`connectors.media`. Read :mod:`connectors.stream.recording`
first.
"""
