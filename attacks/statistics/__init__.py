"""Statistics that keep an attack's figure honest: intervals, power, baselines, placebo, strata."""
