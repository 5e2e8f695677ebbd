"""The windows that were published last, with small pictures of their frames, for the page.

Imports the windows of :mod:`daemon.windows` and of connectors the contract and the messages. Nothing here can hold the
main loop up: it is told, and asks for nothing. Read :mod:`daemon.feed.recent` first.
"""
