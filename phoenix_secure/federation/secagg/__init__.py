"""What server and sites share of secure rounds: terms, payload, noise, keys."""
