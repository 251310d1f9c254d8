"""Cures taken out, one module each, to show what they are for. Lab only, and never quietly.

A module names in its docstring the cure it removes, the fault that makes it hurt, and the
invariants of the auditor that are expected to break. `symphony ablate` runs them all.
"""
