"""What server and sites say to each other in a round, and the state between rounds."""
