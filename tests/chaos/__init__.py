"""The fault matrix: real processes, faults at named points, invariants over what they leave behind."""
