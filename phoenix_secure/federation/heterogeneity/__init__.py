"""Strategies for sites whose images differ, made to work under secure aggregation.

Method: Phoenix (Stanley Jothiraj and Mashhadi, 2023, arXiv:2306.04098).
"""
