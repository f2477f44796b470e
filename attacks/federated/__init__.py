"""What a server of a federation sees: one update per site, or with secure aggregation their sum."""
