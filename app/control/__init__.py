"""What is changed while workers run: keyed values, read by all, acknowledged by each."""
