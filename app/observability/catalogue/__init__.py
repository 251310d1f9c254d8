"""The declarations of all metrics, one module per subject; used as `app.observability.metrics`."""
