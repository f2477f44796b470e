"""Differential privacy: events, accountants, noise, ledgers and what they guarantee together."""
