"""Live pages for people who run the system: recent orders and their sagas."""
