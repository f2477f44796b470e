"""Checking a report without trusting whoever made it; see ``docs/compliance.md``."""
