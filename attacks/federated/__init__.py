"""Attacks on a server's view: one update per site, or with secure aggregation their sum."""
