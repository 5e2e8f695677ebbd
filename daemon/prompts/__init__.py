"""The question that a window is asked, and its way through a template into token ids.

Imports the errors alone; model families register their templates here. Read :mod:`daemon.prompts.prompt` first.
"""
