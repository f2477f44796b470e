"""The Python interface: what the command line does, with values in and typed results out.

``import phoenix_secure as ps`` offers these names and loads torch when the first of them is used.
"""
