"""Metrics, their intervals, and the report."""
