"""Adapters that are trained in the language model's place: LoRA, by peft, under NeVA's own keys.

Imports settings of training and the writers of checkpoints. Read :mod:`neva.training.adapters.lora` first.
"""
