"""Windows as far as their pictures decide: spans that end where shots do, and windows that show nothing new.

Imports the errors and the windows. The search for shots is :mod:`daemon.decoding.shot_search`. Read
:mod:`daemon.content.shots` first.
"""
