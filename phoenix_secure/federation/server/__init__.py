"""The server's side: round loop, optimizer, aggregators, journal."""
