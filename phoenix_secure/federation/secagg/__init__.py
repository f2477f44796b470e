"""The part of secure rounds that server and sites share: terms, payload, noise, keys."""
