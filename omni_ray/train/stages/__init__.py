"""What is particular to each stage, and nothing else."""
