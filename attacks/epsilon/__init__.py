"""Lower bounds on epsilon that a measured attack proves, and the ceilings that a claim implies."""
