"""Scores by geometry, (GPUs, samples per GPU): the papers' table, and what else is laid out by geometry."""
