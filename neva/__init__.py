"""The Video NeVA model family: its frame rule, conversations, evaluation, checkpoints and training."""
