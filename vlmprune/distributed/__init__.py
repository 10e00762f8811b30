"""One run's questions shared by several processes, each of which has a separate model and device.

Process 0 plans the run and locks the run directory, measures latency, asks the judge and logs. Every other process
answers its share of the questions into a folder of its own, RUN/processes/RANK, as a single process answers into the
run directory (worker.py). Process 0 counts these answers for its progress bar, and merges them into the run directory
once all have ended (team.py). A process holds its folder as long as it answers: if the folder is free and has no
result, the process died. A killed process therefore loses at most its unfinished batch, each file has one writer, and
a run can be resumed with any number of processes.

`devices=4` starts the processes (processes.py). Those that `accelerate launch` or `torchrun` started get the path of
the run directory by means of torch.distributed and gloo (torchrun.py); several machines need it on a shared disk.
"""
