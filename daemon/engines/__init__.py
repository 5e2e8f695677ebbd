"""Engines: models that describe a frame set, their token counts, and the checks before they load.

Imports windows, prompts and the configuration. Only :mod:`daemon.engines.vllm.library` imports vLLM. Read
:mod:`daemon.engines.contract` first.
"""
