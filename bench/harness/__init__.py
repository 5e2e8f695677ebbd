"""The surroundings of measurements: brokers, daemons without decoding, tables and plots."""
