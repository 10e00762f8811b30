"""Where the jobs of a sweep run: in this process, on several GPUs of this machine, under Slurm, on a Ray cluster."""
