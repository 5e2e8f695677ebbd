"""The bundled model: the synthetic clips of moving shapes that it knows, its tokenizer and its training.

Imports :mod:`neva.training`, :mod:`neva.checkpoints` and the daemon's windows and pixels. Read
:mod:`neva.shapes.scenes` first.
"""
