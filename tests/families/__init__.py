"""Every family of video models as a tiny model in the real vLLM: what is found is the table of `docs/models.md`."""
