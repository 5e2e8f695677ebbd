"""Every family of video models that captiond serves, as a tiny model in the real vLLM: the table of `docs/models.md`."""
