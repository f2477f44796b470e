"""What one site does in one round, and the model as one vector."""
