"""The outbox relay: publishes committed rows to Kafka in order, as often as needed, never less."""
