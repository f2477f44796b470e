"""The report in the forms that other tools read."""
