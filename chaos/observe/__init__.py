"""Dashboards, alerts and configuration as data, generated into `docker/`; and Prometheus and
Alertmanager beside the embedded lab."""
