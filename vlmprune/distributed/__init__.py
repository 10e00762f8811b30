"""One run's questions over several processes, each with a model and a device of its own.

Process 0 is the run: it plans, holds the run directory and alone writes to it, times questions, asks the judge and
logs. The others (worker.py) are told what to run and which questions are theirs, and send every batch's answers to
process 0 as lines of JSON over a socket (wire.py). So a killed process takes at most its unfinished batch with it,
nothing can be written twice, and any number of processes goes on where any other number stopped. The system closes the
socket of a process that dies, however it dies: the others notice and end.

`devices=4` starts the processes (started.py); `accelerate launch` and `torchrun` start them from outside, and they find
each other with torch.distributed and gloo (launched.py).
"""
