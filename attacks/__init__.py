"""Privacy attacks on diffusion models, as pure functions over arrays."""
