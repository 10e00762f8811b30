"""Launchers of a sweep's jobs: in this process, on several GPUs of this machine, under Slurm, on a Ray cluster."""
