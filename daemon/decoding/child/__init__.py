"""All that runs in the sandboxed decoder process, and nothing else.

Imports no asyncio, configuration, engine or connector: of ours only the errors, :mod:`daemon.windows` and the modules
of :mod:`daemon.decoding` that both sides share. Read :mod:`daemon.decoding.child.worker` first.
"""
