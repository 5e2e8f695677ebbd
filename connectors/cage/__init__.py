"""The parts that cages of processes are built of: system calls, files, privileges. Imports nothing of ours."""
