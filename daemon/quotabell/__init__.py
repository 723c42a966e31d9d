"""Quotabell: an exporter and alerting daemon for LLM token quotas."""

__version__ = "0.1.0"
