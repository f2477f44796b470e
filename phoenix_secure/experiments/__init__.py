"""Privacy-utility experiments: many runs, each judged and attacked, in one table and one page."""
