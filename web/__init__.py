"""The web role: public API, health and live pages over PostgreSQL; needs no Kafka to answer."""
