"""One module for each letter of the catalogue; each answers all of its fields."""
