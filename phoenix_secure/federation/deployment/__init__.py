"""Setting up and running a federation between machines. No crypto of rounds in here."""
