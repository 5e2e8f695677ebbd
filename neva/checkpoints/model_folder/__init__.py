"""Model folders in Hugging Face's layout: found, written file by file, and put in place as a whole.

Imports errors and NeVA's conversations. Read :mod:`neva.checkpoints.model_folder.llava` first.
"""
