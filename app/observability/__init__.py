"""What a worker tells the outside: metrics, logs, health. No decision is taken here."""
