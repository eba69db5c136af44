"""Datasets whose pictures have one label each, and what all datasets offer."""
