"""poco: a learned action-chunk policy on a real robot arm, improved where it runs."""

__version__ = "0.1.0"
