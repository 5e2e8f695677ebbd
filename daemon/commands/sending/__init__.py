"""The commands that send clips to the daemon: `captiond redo` and `captiond enqueue`."""
