"""Privacy-utility experiments: runs, each evaluated and attacked, in one table and one page."""
