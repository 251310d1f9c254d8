"""Ablation: the same experiment with and without one cure, and what the auditor says to both.

A safety pattern that nothing breaks without is superstition. Every cure of `chaos.ablation.cures`
is taken out by a plug-in of `chaos.naive`, in a lab of its own, under the fault it answers.
"""
