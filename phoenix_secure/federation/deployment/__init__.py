"""Setting up and running a deployment. No crypto of rounds in here."""
