"""Recorded data of others: read into episode files of poco, and written for others to read."""
