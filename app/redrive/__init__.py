"""Jobs on dead letters, done by role dlq: send back, edit, discard, purge.

Guarantees: one worker at a time works on a job; a letter is claimed by one job; what is sent is
made from the stored letter alone, so a repeat after a crash is the same record and has one effect.
"""
