"""One run's questions shared by several processes, each of which has a separate model and device.

Process 0 plans the run, locks the run directory and alone writes to it, measures latency, asks the judge and logs.
It sends the others (worker.py) the run's overrides and the ids of their questions; they send every batch's answers to
process 0 as lines of JSON over a socket (messages.py). A killed process therefore loses at most its unfinished batch,
nothing is written twice, and a run can be resumed with any number of processes. The operating system closes the socket
of a process that dies for any reason; the others notice this and end.

`devices=4` starts the processes (processes.py). Processes that `accelerate launch` or `torchrun` started connect by
means of torch.distributed and gloo (torchrun.py).
"""
