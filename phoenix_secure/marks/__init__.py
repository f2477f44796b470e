"""Marks on synthetic images: whoever meets one can tell that a model made it, and which."""
