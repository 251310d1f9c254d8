"""`symphony order` and `symphony saga`: the public API of a running lab from the command line."""
