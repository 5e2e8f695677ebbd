"""Transport: sources, sinks and the routes between them.

Nothing here knows what a video is, and nothing of ours is imported from outside this package. Read
:mod:`connectors.contract` first, then :mod:`connectors.routes`.
"""
