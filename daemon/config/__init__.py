"""The configuration: every setting with its default, the YAML file, and what applies to one clip.

Imports the connectors' settings, prompts and windows; no connector is loaded by it. Read
:mod:`daemon.config.settings` first.
"""
