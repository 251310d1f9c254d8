"""The payment gateway seen from the platform: replies, circuit breaker, client."""
