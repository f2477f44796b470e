"""Quality of generated images, and what a run cost."""
