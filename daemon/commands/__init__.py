"""The work behind the commands of the command line.

May import every package of the daemon; none imports this one. Read :mod:`daemon.commands.caption` first.
"""
