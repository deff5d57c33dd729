"""Addresses, the file systems behind them, and locks. Knows no video and no model."""
