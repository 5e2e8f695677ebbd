"""Bad input through the whole daemon: a named reason each, and the neighbours unharmed."""
