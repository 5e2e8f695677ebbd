"""The tests of captiond."""
