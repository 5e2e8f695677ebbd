"""The Video NeVA model family: conversations, frames, evaluation, checkpoints and training."""
