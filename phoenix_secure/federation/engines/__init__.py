"""Engines carry bytes between the server and the sites. No crypto and no policy in here."""
