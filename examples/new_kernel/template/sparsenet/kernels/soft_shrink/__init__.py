"""Soft shrinkage: numbers move towards zero by a limit, and those within it become zero."""
