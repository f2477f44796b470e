"""The benchmark of differentially private image synthesis, as its field runs it."""
