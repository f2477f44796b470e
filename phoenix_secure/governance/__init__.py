"""The owners' consent through PySyft: proposals, reviews, signed consents, mock data.

PySyft carries the question and shows the answer. It binds an approval to no content, signs
nothing and lets the submitter write the script it runs; so nothing here believes what it says
alone. What counts is the owner's signature over the hash of exactly what was reviewed.

Only this package imports PySyft, and of it only ``syft_job`` and ``syft_datasets``, which work on
plain folders and open no connection; ``docs/governance.md`` says what was measured.
"""
