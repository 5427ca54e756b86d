"""A long run of the whole real path, watched from outside: does anything grow, slow down or stop."""
