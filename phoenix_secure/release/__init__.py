"""One-shot release: features of images, their class sums, and a generator fitted to those."""
