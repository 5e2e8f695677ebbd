"""Real Apache Kafka brokers on loopback."""
