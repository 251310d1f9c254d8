"""What watches the platform: rules, dashboards, an embedded Prometheus, and the alert exam."""
