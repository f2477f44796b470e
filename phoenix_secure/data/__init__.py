"""Images: their sources, the data partition, and the heterogeneity of the sites.

It imports nothing: who only asks where data sets are kept does not wait for numpy.
"""
