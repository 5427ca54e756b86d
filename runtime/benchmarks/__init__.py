"""What `poco-bench` measures, each against a bare competitor in the same run."""
