"""The training of one site in one round, and the model as one vector."""
