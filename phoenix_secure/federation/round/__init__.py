"""The messages between server and sites in a round, and the state between rounds."""
