"""Secure aggregation that survives a malicious server (sans-I/O)."""
