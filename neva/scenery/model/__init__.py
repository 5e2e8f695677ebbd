"""The model that learns scenes: how it grows from the model of shapes, and the tasks it is trained by.

Imports :mod:`neva.scenery`'s statements and :mod:`neva.shapes`. Read :mod:`neva.scenery.model.tasks` first.
"""
