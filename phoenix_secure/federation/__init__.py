"""The federation: rounds, the server's optimizer, engines that carry bytes, the run folder."""
